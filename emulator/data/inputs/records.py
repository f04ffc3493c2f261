"""What Pipe mode makes of an object's bytes: gzip undone, RecordIO around them. Pure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

_MAGIC = 0xCED7230A
"""Begins every record (MXNet RecordIO, which the service's RecordIO is)."""
_LONGEST = (1 << 29) - 4
"""Bytes of one part: its length has 29 bits."""
_WHOLE, _FIRST, _MIDDLE, _LAST = 0, 1, 2, 3
_ANY_GZIP = 31
_PIECE = 1 << 20


class Readable(Protocol):
    """What a record's content is read from."""

    def read(self, size: int, /) -> bytes: ...


class BadGzip(ValueError):
    """It is not gzip, or it ends too early."""


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip file of one or several members, a megabyte at a time at most.

    Raises BadGzip, after everything that could be read.
    """
    engine = zlib.decompressobj(_ANY_GZIP)
    begun = False
    for piece in pieces:
        rest = bytes(piece)
        while rest:
            if engine.eof:
                # Between members there may be padding (gzip(1)).
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                engine = zlib.decompressobj(_ANY_GZIP)
            begun = True
            try:
                data = engine.decompress(rest, _PIECE)
            except zlib.error as error:
                raise BadGzip(f"it is no gzip file: {error}") from error
            rest = engine.unused_data if engine.eof else engine.unconsumed_tail
            if data:
                yield data
    # All input may be inside while output is still to come.
    while not engine.eof and (data := engine.decompress(b"", _PIECE)):
        yield data
    if not engine.eof:
        raise BadGzip("the gzip file ends too early" if begun else "the gzip file is empty")


def record(content: Readable, size: int) -> Iterator[bytes]:
    """One record with `size` bytes of `content`, in pieces; large ones have several parts."""
    if size <= _LONGEST:
        yield from _part(content, size, _WHOLE)
        return
    done = 0
    while done < size:
        length = min(_LONGEST, size - done)
        last = done + length == size
        yield from _part(content, length, _FIRST if not done else _LAST if last else _MIDDLE)
        done += length


def record_header(size: int, part: int = _WHOLE) -> bytes:
    """What stands before the bytes of a record, or of a part of one."""
    return struct.pack("<II", _MAGIC, part << 29 | size)


def _part(content: Readable, size: int, part: int) -> Iterator[bytes]:
    yield record_header(size, part)
    left = size
    while left:
        piece = content.read(min(_PIECE, left))
        if not piece:
            raise EOFError(f"{left} bytes are missing")
        left -= len(piece)
        yield piece
    if padding := -size % 4:
        yield bytes(padding)
