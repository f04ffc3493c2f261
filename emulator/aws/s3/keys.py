"""Requests that name keys the store does not keep: they would reach other objects.

The embedded store takes keys for paths. A key is named in the path, in `x-amz-copy-source`, in the
prefix of a listing, and in the body of DeleteObjects. The form of a presigned POST is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote, unquote_plus
from xml.parsers import expat

from emulator.aws.s3.exchange import Refusal
from emulator.aws.signatures import SignedRequest

KeyProblem = Callable[[str, int], str]
"""Why the store would not keep so many bytes under a key ("" if it does)."""

MOST_BYTES = 8 << 20
"""Of a body with keys: DeleteObjects takes 1000 of 1024 bytes, which are more when escaped."""

_LENGTH = re.compile(r"[0-9]{1,19}")
_SOURCE = b"x-amz-copy-source"


def payload_size(request: SignedRequest) -> int:
    """Bytes that the request brings; 0 where it does not say."""
    # The second one where the payload is in signed or checked chunks.
    sizes = (request.header(b"content-length"), request.header(b"x-amz-decoded-content-length"))
    return next((int(text) for text in reversed(sizes) if _LENGTH.fullmatch(text)), 0)


def key_of(request: SignedRequest) -> str:
    """The key in the path; "" where the request is for a bucket, or for all of them."""
    return unquote(request.path.lstrip("/").partition("/")[2])


def check_keys(request: SignedRequest, problem_with: KeyProblem) -> None:
    """Raise Refusal where the head of the request names a key that the store does not keep.

    Such an object does not exist, so that whoever reads it gets NoSuchKey.
    """
    key = key_of(request)
    if key and (problem := problem_with(key, payload_size(request))):
        if request.method in ("GET", "HEAD"):
            raise _no_such_key()
        raise Refusal(400, "InvalidArgument", problem)
    if source := request.header(_SOURCE):
        copied = unquote(source.partition("?")[0]).lstrip("/").partition("/")[2]
        if problem_with(copied, 0):
            raise _no_such_key()
    if not key and "prefix=" in request.query:
        for name, value in _pairs(request.query):
            if name == "prefix" and (problem := problem_with(value, 0)):
                raise Refusal(400, "InvalidArgument", problem)


def names_keys_in_body(request: SignedRequest) -> bool:
    """Is it DeleteObjects?"""
    return (
        request.method == "POST"
        and not key_of(request)
        and any(name == "delete" for name, _ in _pairs(request.query))
    )


def check_body_size(request: SignedRequest) -> None:
    """Raise Refusal for a body that cannot be read here as a whole."""
    if request.header(b"transfer-encoding"):
        raise Refusal(
            411, "MissingContentLength", "You must provide the Content-Length HTTP header."
        )
    if request.header(b"x-amz-content-sha256").startswith("STREAMING-"):
        raise Refusal(
            501, "NotImplemented", "sagemaker-emulator reads DeleteObjects without chunks only."
        )
    if payload_size(request) > MOST_BYTES:
        raise Refusal(400, "MaxMessageLengthExceeded", "Your request was too large.")


def check_body(body: bytes, problem_with: KeyProblem) -> None:
    """Raise Refusal where DeleteObjects names a key that the store does not keep.

    Nothing is deleted then. S3 would delete the others; but such a key is a mistake here.
    """
    for key in deleted_keys(body):
        if problem := problem_with(key, 0):
            raise Refusal(400, "InvalidArgument", problem)


def deleted_keys(body: bytes) -> list[str]:
    """The keys in the body of DeleteObjects; raises Refusal if it is no XML."""
    keys: list[str] = []
    inside = False

    def start(name: str, _: object) -> None:
        nonlocal inside
        inside = name.rpartition(" ")[2] == "Key"
        if inside:
            keys.append("")

    def end(_: str) -> None:
        nonlocal inside
        inside = False

    def text(data: str) -> None:
        if inside:
            keys[-1] += data

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise Refusal(
            400,
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published "
            "schema",
        ) from error
    return keys


def _no_such_key() -> Refusal:
    return Refusal(404, "NoSuchKey", "The specified key does not exist.")


def _pairs(query: str) -> list[tuple[str, str]]:
    words = (word.partition("=") for word in query.split("&") if word)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in words]
