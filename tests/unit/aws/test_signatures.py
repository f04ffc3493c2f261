"""Signatures against botocore's signers."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from emulator.aws.signatures import SignedRequest, Signer, signer_of

URL = "http://127.0.0.1:4570/bucket/a%2Bb%20c/%E6%97%A5?list-type=2&prefix=a%2Fb%20c&empty"


def signed(
    method: str = "PUT",
    url: str = URL,
    token: str | None = None,
    presigned: bool = False,
    headers: dict[str, str] | None = None,
) -> SignedRequest:
    """A request as botocore signs it."""
    data = None if presigned else b"body"
    request = AWSRequest(method=method, url=url, data=data, headers=headers or {})
    credentials = Credentials("key/id", "secret", token)
    signer = S3SigV4QueryAuth if presigned else S3SigV4Auth
    signer(credentials, "s3", "eu-west-1").add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    lines = [(n.lower().encode(), _bytes(v)) for n, v in prepared.headers.items()]
    host = (b"host", parts.netloc.encode())
    return SignedRequest(method, parts.path, parts.query, [host, *lines])


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


@pytest.mark.parametrize("presigned", [False, True])
@pytest.mark.parametrize("token", [None, "a/token+with=signs"])
def test_botocores_signature_is_right_and_any_other_is_not(
    presigned: bool, token: str | None
) -> None:
    request = signed(presigned=presigned, token=token)
    assert request.presigned is presigned
    assert request.is_signed_by("key/id", "secret")
    assert not request.is_signed_by("key/id", "other")
    assert not request.is_signed_by("other", "secret")


@pytest.mark.parametrize("presigned", [False, True])
def test_what_is_signed_cannot_be_changed(presigned: bool) -> None:
    request = signed(presigned=presigned)
    for changed in (
        SignedRequest("GET", request.path, request.query, request.headers),
        SignedRequest("PUT", request.path + "x", request.query, request.headers),
        SignedRequest("PUT", request.path, request.query + "&acl", request.headers),
        SignedRequest("PUT", request.path, request.query, [(b"host", b"elsewhere")]),
    ):
        assert not changed.is_signed_by("key/id", "secret")


@pytest.mark.parametrize("presigned", [False, True])
def test_signed_anew_without_a_token_and_a_header(presigned: bool) -> None:
    request = signed(
        token="a token", presigned=presigned, headers={"x-amz-server-side-encryption": "aws:kms"}
    )
    less = request.without([b"x-amz-security-token", b"x-amz-server-side-encryption"], "secret")
    assert less.is_signed_by("key/id", "secret")
    whole = f"{less.query} {less.headers}".lower()
    assert "security-token" not in whole
    assert "server-side-encryption" not in whole
    kept = {b"host", b"x-amz-content-sha256"} if not presigned else {b"host"}
    assert kept <= {name for name, _ in less.headers}
    assert signer_of(
        {name.decode(): value.decode() for name, value in less.headers}, less.query
    ) == Signer("key/id", "eu-west-1", "s3")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.booleans())
def test_any_value_of_a_query_is_signed_as_botocore_does(prefix: str, presigned: bool) -> None:
    prepared = AWSRequest("GET", "http://h/b", params={"prefix": prefix}).prepare()
    request = signed("GET", prepared.url.replace("+", "%20"), presigned=presigned)
    assert request.is_signed_by("key/id", "secret")


@pytest.mark.parametrize(
    ("authorization", "signer"),
    [
        (
            "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/sagemaker/aws4_request, "
            "SignedHeaders=host, Signature=00",
            Signer("AK", "us-east-1", "sagemaker"),
        ),
        (
            "AWS4-ECDSA-P256-SHA256 Credential=AK/20260101/sts/aws4_request,SignedHeaders=host",
            Signer("AK", "", "sts"),
        ),
        ("Bearer abc", None),
        ("AWS4-HMAC-SHA256 Credential=nonsense", None),
        ("", None),
    ],
)
def test_who_signed(authorization: str, signer: Signer | None) -> None:
    assert signer_of({"authorization": authorization}, "") == signer


@given(st.text(max_size=80))
def test_a_header_of_any_form_is_never_right_and_never_an_error(line: str) -> None:
    raw = line.encode("utf-8", "replace")
    request = SignedRequest("GET", "/", "", [(b"authorization", raw)])
    assert not request.is_signed_by("key", "secret")
    signer_of({"authorization": line}, "")


@pytest.mark.parametrize("name", ["Credential", "Date", "SignedHeaders", "Signature"])
@pytest.mark.parametrize("value", ["%ff", "%E9", "%00", ""])
def test_a_presigned_value_of_any_bytes_is_never_right_and_never_an_error(
    name: str, value: str
) -> None:
    fields = {
        "Credential": "key%2F20260101%2Feu-west-1%2Fs3%2Faws4_request",
        "Date": "20260101T000000Z",
        "SignedHeaders": "host",
        "Signature": "0",
    }
    fields[name] = f"key%2F{value}%2F{value}%2Fs3%2Faws4_request" if name == "Credential" else value
    query = "&".join(f"X-Amz-{field}={text}" for field, text in fields.items())
    request = SignedRequest("GET", "/", query, [(b"host", b"x")])
    assert not request.is_signed_by("key", "secret")
    request.in_the_name_of("other").without((b"x-amz-security-token",), "secret")


def test_a_signature_beyond_ascii_is_wrong() -> None:
    line = "AWS4-HMAC-SHA256 Credential=key/a/b/s3/aws4_request, SignedHeaders=host, Signature=é"
    request = SignedRequest("GET", "/", "", [(b"authorization", line.encode("latin-1"))])
    assert not request.is_signed_by("key", "secret")


@pytest.mark.parametrize("slash", ["%2F", "%2f", "/"])
def test_a_presigned_request_in_anothers_name_however_its_credential_is_written(slash: str) -> None:
    request = signed(presigned=True)
    written = SignedRequest(
        request.method,
        request.path,
        request.query.replace("%2F", slash),
        request.headers,
    )
    own = written.in_the_name_of("other").without((), "secret")
    assert own.is_signed_by("other", "secret")
    assert "key" not in own.query
