from __future__ import annotations

import gzip

import pytest

from emulator.aws.wire.compression import unpacked
from emulator.aws.wire.http import HttpRequest
from emulator.model.errors import ApiError


def packed(body: bytes, encoding: str = "gzip") -> HttpRequest:
    return HttpRequest("POST", "/", "", {"content-encoding": encoding}, body)


def test_gzip_is_undone_and_nothing_else() -> None:
    assert unpacked(packed(gzip.compress(b"words")), 100).body == b"words"
    assert unpacked(packed(b"words", "identity"), 1).body == b"words"
    assert unpacked(HttpRequest("POST", "/", "", {}, b"words"), 1).body == b"words"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"words", 400), (gzip.compress(b"words")[:-9], 400), (gzip.compress(bytes(10**6)), 413)],
    ids=["no gzip", "cut off", "too large"],
)
def test_what_cannot_be_unpacked_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(ApiError) as refusal:
        unpacked(packed(body), 1000)
    assert refusal.value.status == status
