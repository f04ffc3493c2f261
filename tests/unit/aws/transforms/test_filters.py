"""DataProcessing of transform jobs."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.aws.transforms.filters import DataProcessing, read_path, read_processing
from emulator.aws.transforms.records import BadInput

RECORD = {"id": 1, "f": [10, 20, 30], "a b": {"c": 2}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", RECORD),
        ("$.id", 1),
        ("$['a b'].c", 2),
        ("$.f[0]", 10),
        ("$.f[-1]", 30),
        ("$.f[0,2]", [10, 30]),
        ("$.f[1:]", [20, 30]),
        ("$.f[*]", [10, 20, 30]),
        ("$['a b'].*", [2]),
        ("$['id','f']", {"id": 1, "f": [10, 20, 30]}),
        ("$.['id','f']", {"id": 1, "f": [10, 20, 30]}),
        ("$.f[0,2:]", [10, 30]),
    ],
)
def test_paths(path: str, found: Any) -> None:
    assert read_path(path)(RECORD) == found


@pytest.mark.parametrize("path", ["", "id", "$..id", "$[?(@.a)]", "$.f[", "$['a]"])
def test_paths_that_cannot_be_read(path: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        read_path(path)


def test_a_path_that_finds_nothing() -> None:
    for path in ("$.none", "$.id.x", "$.f[9]"):
        with pytest.raises(BadInput, match="finds nothing"):
            read_path(path)(RECORD)


def processing(kind: str, **asked: str) -> DataProcessing:
    found = read_processing(asked, kind, None)
    assert found is not None
    return found


def test_columns_of_csv() -> None:
    found = processing("text/csv", InputFilter="$[1:]", OutputFilter="$[0,-1]", JoinSource="Input")
    body = b'7,"a, b",2\n8,c,3\n'
    assert found.request(body) == b'"a, b",2\nc,3\n'
    assert found.answer(body, b"0.5\n0.7\n") == b"7,0.5\n8,0.7\n"
    with pytest.raises(BadInput, match="2 records have 1 answers"):
        found.answer(body, b"0.5\n")


def test_members_of_json() -> None:
    found = processing(
        "application/json",
        InputFilter="$.f",
        OutputFilter="$['id','SageMakerOutput']",
        JoinSource="Input",
    )
    body = b'{"id": 1, "f": [1, 2]}\n{"id": 2, "f": [3, 4]}\n'
    assert found.request(body) == b"[1, 2]\n[3, 4]\n"
    expected = b'{"id": 1, "SageMakerOutput": 5}\n{"id": 2, "SageMakerOutput": 6}\n'
    assert found.answer(body, b"5\n6\n") == expected
    assert found.answer(body, b"[5, 6]") == expected


def test_a_value_that_is_no_object_is_joined_under_a_name() -> None:
    found = processing("application/json", JoinSource="Input")
    assert found.answer(b"[1]", b"2") == b'{"SageMakerInput": [1], "SageMakerOutput": 2}\n'


def test_what_cannot_be_processed() -> None:
    assert read_processing({"InputFilter": "$", "JoinSource": "None"}, None, None) is None
    with pytest.raises(ValueError, match="text/csv or application/json"):
        read_processing({"InputFilter": "$[0]"}, "image/png", None)
    with pytest.raises(ValueError, match="same type"):
        read_processing({"JoinSource": "Input"}, "text/csv", "application/json")
    with pytest.raises(BadInput, match="no JSON"):
        processing("application/json", InputFilter="$.a").request(b"x")


def test_a_line_separator_within_a_record_is_no_end() -> None:
    found = processing("application/jsonlines", InputFilter="$.t")
    body = '{"t":"a\u2028b"}\n{"t":"c"}\n'.encode()
    assert found.request(body).count(b"\n") == 2
