"""Listings as servers write them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from emulator.data.objectstore.failures import StoreError
from emulator.data.objectstore.listing import Lister, NoListing

ENCODED = """<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
<NextContinuationToken>x+1</NextContinuationToken>
<Contents><Key>in/a+b%2Bc%25</Key><Size>3</Size><ETag>"e"</ETag></Contents></ListBucketResult>"""
PLAIN = """<ListBucketResult><IsTruncated>false</IsTruncated>
<Contents><Key>in/a+b%2B</Key><Size>4</Size><ETag>&quot;f&quot;</ETag></Contents>
</ListBucketResult>"""


class Answer:
    def __init__(self, status: int, text: str):
        self.status = status
        self.data = text.encode()


class Server:
    """Gives one answer after another and remembers what it was asked."""

    def __init__(self, *answers: Answer):
        self.answers = list(answers)
        self.asked: list[dict[str, list[str]]] = []

    def request(self, _method: str, url: str, **_: Any) -> Answer:
        self.asked.append(parse_qs(urlsplit(url).query))
        return self.answers.pop(0)


def listed(*answers: Answer, size: int = 1000) -> tuple[list[tuple[str, int, str]], Server]:
    server = Server(*answers)
    lister = Lister(server, "http://s3:1", "key", "secret", "us-east-1")  # type: ignore[arg-type]
    pages = lister.pages("bucket", "in/", size)
    return [(each.key, each.size, each.etag) for page in pages for each in page], server


def test_keys_are_decoded_where_the_server_encoded_them() -> None:
    found, server = listed(Answer(200, ENCODED), Answer(200, PLAIN), size=1)
    assert found == [("in/a b+c%", 3, "e"), ("in/a+b%2B", 4, "f")]
    assert [asked["max-keys"] for asked in server.asked] == [["1"], ["1"]]
    assert server.asked[1]["continuation-token"] == ["x+1"]


@pytest.mark.parametrize(("status", "text"), [(404, "<Error/>"), (200, "<html>")])
def test_what_is_no_listing(status: int, text: str) -> None:
    with pytest.raises(NoListing):
        listed(Answer(status, text))


def test_a_listing_that_does_not_go_on() -> None:
    cut = PLAIN.replace("false", "true")
    with pytest.raises(StoreError, match="does not go on"):
        listed(Answer(200, cut))
