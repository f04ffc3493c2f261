"""What a request to the runtime asks for: its path, its headers and what of them containers get."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from emulator.aws.invocations.container_http import Headers
from emulator.aws.invocations.replies import invalid

PREFIX = b"/endpoints/"
"""Of the paths of sagemaker-runtime."""
_PATH = re.compile(
    rb"/endpoints/([^/]+)/(invocations|invocations-response-stream|async-invocations)"
)
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_ATTRIBUTES_LIMIT = 1024
_INFERENCE_ID = re.compile(r"\A\S[\x20-\x7e]{0,63}\Z")

CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
SESSION_ID = b"x-amzn-sagemaker-session-id"
TARGET_MODEL = b"x-amzn-sagemaker-target-model"
NEW_SESSION = b"x-amzn-sagemaker-new-session-id"
CLOSED_SESSION = b"x-amzn-sagemaker-closed-session-id"
_TARGET_VARIANT = b"x-amzn-sagemaker-target-variant"
_TARGET_CONTAINER = b"x-amzn-sagemaker-target-container-hostname"
_COMPONENT = b"x-amzn-sagemaker-inference-component"
_ACCEPT = b"x-amzn-sagemaker-accept"
_CONTENT_TYPE = b"x-amzn-sagemaker-content-type"
_PASSED = frozenset((CUSTOM_ATTRIBUTES, INFERENCE_ID, SESSION_ID, TARGET_MODEL))


class Kind(str, Enum):
    """The operation."""

    INVOKE = "InvokeEndpoint"
    STREAM = "InvokeEndpointWithResponseStream"
    ASYNC = "InvokeEndpointAsync"


_KINDS = {
    b"invocations": Kind.INVOKE,
    b"invocations-response-stream": Kind.STREAM,
    b"async-invocations": Kind.ASYNC,
}


@dataclass(frozen=True)
class Invocation:
    """A request to an endpoint, all but its body."""

    kind: Kind
    endpoint: str
    content_type: bytes | None
    accept: bytes | None
    passed: Headers
    """Headers that containers get, beside Content-Type and Accept."""
    headers: dict[bytes, bytes]
    """All of them, names in lower case."""

    def text(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def variant(self) -> str | None:
        return self.text(_TARGET_VARIANT)

    @property
    def container(self) -> str | None:
        return self.text(_TARGET_CONTAINER)

    @property
    def component(self) -> str | None:
        return self.text(_COMPONENT)

    @property
    def model(self) -> str | None:
        return self.text(TARGET_MODEL)

    @property
    def session(self) -> str | None:
        return self.text(SESSION_ID)

    @property
    def inference_id(self) -> str | None:
        return self.text(INFERENCE_ID)


def read_invocation(path: bytes, headers: Headers) -> Invocation | None:
    """Read a POST; None for a path that is none of the runtime's. Raises Refusal.

    All other headers are stripped, as the developer guide says.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    name = unquote(match[1].decode("latin-1"))
    if not _NAME.fullmatch(name):
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'endpointName' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: "
            "^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
        )
    kind, given = _KINDS[match[2]], dict(headers)
    if len(given.get(CUSTOM_ATTRIBUTES, b"")) > _ATTRIBUTES_LIMIT:
        raise invalid(
            "1 validation error detected: Value at 'customAttributes' failed to satisfy "
            f"constraint: Member must have length less than or equal to {_ATTRIBUTES_LIMIT}"
        )
    identifier = given.get(INFERENCE_ID)
    if identifier is not None and not _INFERENCE_ID.match(identifier.decode("latin-1")):
        raise invalid(
            "1 validation error detected: Value at 'inferenceId' failed to satisfy constraint: "
            "Member must have length less than or equal to 64"
        )
    plain = kind is Kind.INVOKE
    return Invocation(
        kind=kind,
        endpoint=name,
        content_type=given.get(_CONTENT_TYPE if kind is Kind.ASYNC else b"content-type"),
        accept=given.get(b"accept" if plain else _ACCEPT),
        passed=[(name_, value) for name_, value in headers if name_ in _PASSED],
        headers=given,
    )


def request_head(
    path: bytes, content_type: bytes | None, accept: bytes | None, passed: Headers, length: int
) -> bytes:
    """The head of the request to a container."""
    lines = [b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n"]
    if content_type is not None:
        lines.append(b"Content-Type: " + content_type + b"\r\n")
    if accept is not None:
        lines.append(b"Accept: " + accept + b"\r\n")
    lines.extend(name + b": " + value + b"\r\n" for name, value in passed)
    lines.append(b"Content-Length: %d\r\n\r\n" % length)
    return b"".join(lines)
