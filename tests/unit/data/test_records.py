"""gzip undone and RecordIO around what comes out."""

from __future__ import annotations

import gzip
import io
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.data.inputs import records
from emulator.data.inputs.records import BadGzip, gunzip, record


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 64))
def test_members_of_any_number_in_pieces_of_any_size(parts: list[bytes], size: int) -> None:
    packed = b"".join(gzip.compress(part) for part in parts)
    assert b"".join(gunzip(pieces(packed, size))) == b"".join(parts)


def test_what_grows_a_thousandfold_comes_in_small_pieces() -> None:
    found = list(gunzip([gzip.compress(bytes(20 << 20))]))
    assert sum(map(len, found)) == 20 << 20
    assert max(map(len, found)) <= 1 << 20


@pytest.mark.parametrize("cut", [1, 8, 9, 40])
def test_a_file_that_ends_too_early(cut: int) -> None:
    packed = gzip.compress(os.urandom(1000))
    with pytest.raises(BadGzip, match="ends too early"):
        list(gunzip([packed[:-cut]]))


@pytest.mark.parametrize(
    "data", [b"plain text", gzip.compress(b"x") + b"garbage"], ids=["text", "garbage after it"]
)
def test_what_is_no_gzip(data: bytes) -> None:
    with pytest.raises(BadGzip, match="no gzip"):
        list(gunzip([data]))


def test_an_empty_file_is_no_gzip() -> None:
    with pytest.raises(BadGzip, match="is empty"):
        list(gunzip([]))


@given(st.binary(max_size=50))
def test_a_record(content: bytes) -> None:
    whole = b"".join(record(io.BytesIO(content), len(content)))
    magic, size = struct.unpack("<II", whole[:8])
    assert (magic, size) == (0xCED7230A, len(content))
    assert whole[8 : 8 + size] == content
    assert len(whole) % 4 == 0
    assert set(whole[8 + size :]) <= {0}


def test_a_record_longer_than_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LONGEST", 8)
    whole = io.BytesIO(b"".join(record(io.BytesIO(b"0123456789abcdefghij"), 20)))
    found = []
    while header := whole.read(8):
        _, length = struct.unpack("<II", header)
        found.append((length >> 29, whole.read(length & (1 << 29) - 1)))
    assert found == [(1, b"01234567"), (2, b"89abcdef"), (3, b"ghij")]


def test_content_shorter_than_it_was_said_to_be() -> None:
    with pytest.raises(EOFError):
        list(record(io.BytesIO(b"abc"), 4))
