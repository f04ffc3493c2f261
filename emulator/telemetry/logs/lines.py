"""The lines of a log stream's file: one event each, found by their offsets.

A line is `<epoch milliseconds> <message>`. A last line without its newline was cut off by a
kill, or is still being written: nothing here sees it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 1 << 16
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class LogEvent:
    """One line of a stream; it spans the bytes from `start` to `end` of the file."""

    timestamp: int
    """Epoch milliseconds."""
    message: str
    start: int
    end: int


def window(file: BinaryIO, since: int, until: int | None) -> tuple[int, int]:
    """The offsets between which the events of a time range lie."""
    size = committed(file)
    low = _bisect(file, size, since) if since > 0 else 0
    return low, size if until is None else max(low, _bisect(file, size, until))


def _bisect(file: BinaryIO, size: int, moment: int) -> int:
    """The offset of the first event that is not before `moment`, or `size`."""
    low, high = 0, size
    while low < high:
        middle = _line_start(file, (low + high) // 2)
        event = next(forward(file, middle, size))
        if event.timestamp < moment:
            low = event.end
        else:
            high = middle
    return low


def _line_start(file: BinaryIO, offset: int) -> int:
    """Where the line that holds the byte at `offset` starts."""
    end = offset
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def committed(file: BinaryIO) -> int:
    """The size of the file without a last line that is still being written or was cut off."""
    return _line_start(file, file.seek(0, os.SEEK_END))


def forward(file: BinaryIO, start: int, end: int) -> Iterator[LogEvent]:
    """The events between two offsets, the first one first."""
    file.seek(start)
    while start < end:
        line = file.readline()
        yield _event(line, start)
        start += len(line)


def backward(file: BinaryIO, end: int, start: int) -> Iterator[LogEvent]:
    """The events between two offsets, the last one first."""
    while end > start:
        # A block's own first line may be longer than the block, hence the search.
        begin = _line_start(file, max(start, end - _BLOCK))
        file.seek(begin)
        for line in reversed(file.read(end - begin).splitlines(keepends=True)):
            end -= len(line)
            yield _event(line, end)


def _event(line: bytes, start: int) -> LogEvent:
    head, _, message = line[:-1].partition(b" ")
    moment = head if head.isdigit() else head.partition(b"=")[0].rstrip(b"+")
    return LogEvent(int(moment), _unescaped(message), start, start + len(line))


def escaped(message: str) -> bytes:
    """A message in one line; whatever bytes.splitlines() breaks at is replaced."""
    data = message.encode("utf-8", "replace")
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def _unescaped(data: bytes) -> str:
    if b"\\" in data:
        data = _ESCAPED.sub(lambda match: _PLAIN.get(match[1], match[1]), data)
    return data.decode("utf-8", "replace")


_PLAIN = {b"n": b"\n", b"r": b"\r"}
