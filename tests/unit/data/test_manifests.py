"""Manifests that users write, good and bad."""

from __future__ import annotations

import json

import pytest

from emulator.data.inputs.manifests import Attribute, parse_line, parse_object_list
from emulator.model.errors import ClientError
from emulator.model.workload import S3Uri

URI = S3Uri("b", "m.json")


def test_names_follow_the_prefix() -> None:
    text = json.dumps([{"prefix": "s3://data/p/"}, "x", "y/z", "x"])
    found = parse_object_list(URI, text)
    assert found.prefix == S3Uri("data", "p/")
    assert found.keys == ("p/x", "p/y/z")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("s3://b/x\n", "is not JSON"),
        ("", "is not JSON"),
        ("{}", "is not a list"),
        ("[]", "is not a list"),
        ('["a"]', "does not begin with"),
        ('[{"prefix": 1}, "a"]', "does not begin with"),
        ('[{"prefix": "/local/"}, "a"]', "has a prefix that is not an S3 URI"),
        ('[{"prefix": "s3://b/"}, 3]', "an entry that is not a name: 3"),
        ('[{"prefix": "s3://b/"}, ""]', "an entry that is not a name"),
        ('[{"prefix": "s3://b/"}]', "names no objects"),
    ],
)
def test_what_is_no_manifest(text: str, what: str) -> None:
    with pytest.raises(
        ClientError, match=f"Data download failed:.*Manifest s3://b/m.json .*{what}"
    ):
        parse_object_list(URI, text)


def test_attributes_in_the_order_of_their_names() -> None:
    line = '{"label": 3, "source-ref": "s3://b/x.png", "meta": {"k": [1]}, "text": "é"}'
    found = parse_line(URI, 1, line, ["source-ref", "label", "text", "meta"])
    assert found == (
        Attribute(reference=S3Uri("b", "x.png")),
        Attribute("3"),
        Attribute("é"),
        Attribute('{"k": [1]}'),
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("nonsense", "a line 7 that is not JSON"),
        ("[1]", "a line 7 that is not an object"),
        ('{"label": 1}', "a line 7 without the attribute 'source-ref'"),
        ('{"source-ref": "x.png"}', "'source-ref' is no S3 URI"),
        ('{"source-ref": 4}', "'source-ref' is no S3 URI"),
    ],
)
def test_bad_lines(line: str, what: str) -> None:
    with pytest.raises(ClientError, match=what):
        parse_line(URI, 7, line, ["source-ref"])
