"""What an upload reads, how it is counted, and how large its parts are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

CHUNK = 1 << 20
PART = 16 << 20
"""Bytes of an upload that are in memory at a time, unless the object needs larger parts."""
_MAX_PARTS = 10_000


class Readable(Protocol):
    """What an upload reads from: `read(n)` gives n bytes, fewer only at the end."""

    def read(self, size: int, /) -> bytes: ...


def ignore_bytes(count: int) -> None:
    """Nobody counts."""


def part_size(bound: int) -> int:
    """Bytes a part so that an object of `bound` bytes fits S3's number of parts."""
    needed = -(-bound // _MAX_PARTS)
    return max(PART, -(-needed // CHUNK) * CHUNK)


class Counted:
    """Counts what an upload has read."""

    def __init__(self, stream: Readable, on_bytes: Callable[[int], None]):
        self._stream = stream
        self._on_bytes = on_bytes

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._on_bytes(len(data))
        return data
