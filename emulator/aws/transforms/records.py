"""Input objects as records and requests. Pure."""

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


def requests_of(content: bytes, spec: TransformSpec) -> Iterator[bytes]:
    """The bodies of the requests for an object. Raises BadInput."""
    records = _records(content, spec.split)
    if not spec.multi:
        for record in records:
            if len(record) > spec.payload:
                raise _too_long(len(record), spec)
            yield record
        return
    batch = bytearray()
    for record in records:
        if len(record) > spec.payload:
            raise _too_long(len(record), spec)
        if batch and len(batch) + len(record) > spec.payload:
            yield bytes(batch)
            batch.clear()
        batch += record
    if batch:
        yield bytes(batch)


def assembled(answers: Iterable[bytes], spec: TransformSpec) -> bytes:
    """The object that goes out."""
    if not spec.by_line:
        return b"".join(answers)
    return b"".join(each if each.endswith(b"\n") else each + b"\n" for each in answers)


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


def _records(content: bytes, split: str) -> Iterator[bytes]:
    if split == "Line":
        yield from (line for line in content.splitlines(keepends=True) if line.strip())
    elif split == "RecordIO":
        yield from _record_io(content)
    else:
        yield content


def _record_io(content: bytes) -> Iterator[bytes]:
    """Whole records of MXNet's RecordIO, their frames included, as the service sends them on."""
    at, begin = 0, 0
    while at < len(content):
        if len(content) - at < 8:
            raise BadInput("the last record is cut off")
        magic, word = struct.unpack_from("<II", content, at)
        if magic != _MAGIC:
            raise BadInput("it is no RecordIO file")
        length, part = word & _LENGTH, word >> 29
        at += 8 + (length + 3) // 4 * 4
        if part in (0, 3):
            yield content[begin:at]
            begin = at
    if begin != len(content):
        raise BadInput("the last record is cut off")


def _too_long(size: int, spec: TransformSpec) -> BadInput:
    return BadInput(f"a record has {size} bytes, more than MaxPayloadInMB allows ({spec.payload})")
