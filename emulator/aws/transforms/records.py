"""Input objects as records and requests. Pure.

The API reference describes SplitType and BatchStrategy. RecordIO is MXNet's, TFRecord TensorFlow's;
their checksums are not looked at.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator

from emulator.model.workload import S3Uri
from emulator.resources.transform.job import TransformSpec

_MAGIC = 0xCED7230A
_LENGTH = (1 << 29) - 1


class BadInput(ValueError):
    """The input cannot be cut as the request says."""


class _Reader:
    """Takes exact numbers of bytes from pieces of any size."""

    def __init__(self, pieces: Iterable[bytes], limit: int | None):
        self._pieces = iter(pieces)
        self._limit = limit
        self._kept = bytearray()

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end only. Raises BadInput for more than the limit."""
        _check(count, self._limit)
        while len(self._kept) < count and (piece := next(self._pieces, None)) is not None:
            self._kept += piece
        taken = bytes(self._kept[:count])
        del self._kept[:count]
        return taken

    def exactly(self, count: int) -> bytes:
        taken = self.take(count)
        if len(taken) < count:
            raise BadInput("the last record is cut off")
        return taken


def requests_of(pieces: Iterable[bytes], spec: TransformSpec) -> Iterator[bytes]:
    """The bodies of the requests for an object, which comes in pieces of any size.

    Holds no more than a request and a piece. Raises BadInput.
    """
    batch = bytearray()
    for record in _records(pieces, spec):
        _check(len(record), spec.payload)
        if not spec.multi:
            yield record
            continue
        if batch and spec.payload is not None and len(batch) + len(record) > spec.payload:
            yield bytes(batch)
            batch.clear()
        batch += record
    if batch:
        yield bytes(batch)


def output_of(key: str, spec: TransformSpec, prefix: str) -> S3Uri:
    """Where the answers for an input object go: its key below the prefix's directory, and .out."""
    directory = prefix[: prefix.rfind("/") + 1]
    return spec.output.join(f"{key.removeprefix(directory)}.out")


def manifest(content: bytes) -> tuple[S3Uri, list[str]]:
    """The prefix of a manifest file and the names behind it. Raises BadInput."""
    try:
        first, *names = json.loads(content)
        return S3Uri.parse(first["prefix"]), [str(name) for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"it is no manifest file: {error}") from error


def _records(pieces: Iterable[bytes], spec: TransformSpec) -> Iterator[bytes]:
    """A binary record that is sent alone has no padding (API reference)."""
    if spec.split == "Line":
        return _lines(pieces, spec.payload)
    if spec.split == "None":
        return _whole(pieces, spec.payload)
    reader = _Reader(pieces, spec.payload)
    framed = _record_io(reader) if spec.split == "RecordIO" else _tf_records(reader)
    return (record if spec.multi else content for record, content in framed)


def _whole(pieces: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    kept = bytearray()
    for piece in pieces:
        kept += piece
        _check(len(kept), limit)
    yield bytes(kept)


def _lines(pieces: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines if line.strip())
        _check(len(rest), limit)
    if rest.strip():
        yield rest


def _record_io(reader: _Reader) -> Iterator[tuple[bytes, bytes]]:
    """Whole records of MXNet's RecordIO, and their contents."""
    record, content = b"", b""
    while head := reader.take(8):
        if len(head) < 8:
            raise BadInput("the last record is cut off")
        magic, word = struct.unpack("<II", head)
        if magic != _MAGIC:
            raise BadInput("it is no RecordIO file")
        length, part = word & _LENGTH, word >> 29
        data = reader.exactly((length + 3) // 4 * 4)
        record, content = record + head + data, content + data[:length]
        if part in (0, 3):
            yield record, content
            record, content = b"", b""
    if record:
        raise BadInput("the last record is cut off")


def _tf_records(reader: _Reader) -> Iterator[tuple[bytes, bytes]]:
    """Whole records, each with its length and two checksums, and their contents."""
    while head := reader.take(12):
        if len(head) < 12:
            raise BadInput("the last record is cut off")
        (length,) = struct.unpack_from("<Q", head)
        data = reader.exactly(length + 4)
        yield head + data, data[:length]


def _check(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise BadInput(
            f"Too much data for max payload size: a record has {size} bytes or more, and "
            f"MaxPayloadInMB allows {limit}"
        )
