"""Which keys a request names, wherever it names them."""

from __future__ import annotations

import pytest

from emulator.aws.s3.exchange import Refusal
from emulator.aws.s3.keys import (
    MOST_BYTES,
    check_body_size,
    check_keys,
    deleted_keys,
    names_keys_in_body,
)
from emulator.aws.signatures import SignedRequest
from emulator.data.objectstore.weed import key_problem


def request(method: str, path: str, query: str = "", **headers: str) -> SignedRequest:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return SignedRequest(method, path, query, lines)


def code(asked: SignedRequest) -> str:
    try:
        check_keys(asked, key_problem)
    except Refusal as refusal:
        return refusal.code
    return ""


def test_keys_in_the_head() -> None:
    assert code(request("GET", "/b/k")) == ""
    assert code(request("PUT", "/b/k//l")) == "InvalidArgument"
    assert code(request("PUT", "/b/k%2F%2Fl")) == "InvalidArgument"
    assert code(request("GET", "/b//k")) == "NoSuchKey"
    assert code(request("PUT", "/b/k", x_amz_copy_source="b/x")) == ""
    assert code(request("PUT", "/b/k", x_amz_copy_source="/b/x%2F%2Fy?versionId=1")) == "NoSuchKey"
    assert code(request("PUT", "/b/k", x_amz_copy_source="b//x")) == "NoSuchKey"
    assert code(request("GET", "/b", "list-type=2&prefix=x%2F&delimiter=%2F")) == ""
    assert code(request("GET", "/b", "list-type=2&prefix=x%2F%2F")) == "InvalidArgument"


def test_delete_objects_is_recognized() -> None:
    assert names_keys_in_body(request("POST", "/b", "delete"))
    assert names_keys_in_body(request("POST", "/b/", "x-id=DeleteObjects&delete="))
    assert not names_keys_in_body(request("POST", "/b/delete", "uploads"))
    assert not names_keys_in_body(request("POST", "/b", "x-id=delete"))
    assert not names_keys_in_body(request("DELETE", "/b/k", "delete"))


def test_keys_in_the_body() -> None:
    body = (
        '<?xml version="1.0"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        "<Object><Key>a&amp;b</Key><VersionId>v</VersionId></Object>"
        "<s:Object xmlns:s='x'><s:Key><![CDATA[c//]]>d</s:Key></s:Object></Delete>"
    )
    assert deleted_keys(body.encode()) == ["a&b", "c//d"]
    with pytest.raises(Refusal) as refused:
        deleted_keys(b"<Delete>")
    assert refused.value.code == "MalformedXML"


def test_a_body_that_cannot_be_read_as_a_whole_is_refused() -> None:
    check_body_size(request("POST", "/b", "delete", content_length="1000"))
    for headers, expected in (
        ({"content_length": str(MOST_BYTES + 1)}, "MaxMessageLengthExceeded"),
        ({"transfer_encoding": "chunked"}, "MissingContentLength"),
        ({"x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, "NotImplemented"),
    ):
        with pytest.raises(Refusal) as refused:
            check_body_size(request("POST", "/b", "delete", **headers))
        assert refused.value.code == expected
