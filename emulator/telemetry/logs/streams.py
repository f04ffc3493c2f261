"""Log streams as append-only files: one line an event, a position is a byte offset.

A line is `<epoch milliseconds> <message>`. The timestamps of a stream never go back, so
a moment is found by bisection and no page needs more of the file than it shows. A last
line without its newline was cut off by a kill: readers do not see it, and the next to
open the stream for writing removes it.

What an instance wrote is marked, so that an emulator after a killed one finds where to go on:
the last line of each piece as `<milliseconds>=<bytes>`, with the bytes of the instance's output
that the stream has then, those before it as `<milliseconds>+`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from emulator.model.errors import ResourceNotFound
from emulator.model.scope import Scope
from emulator.telemetry.logs.lines import LogEvent as LogEvent
from emulator.telemetry.logs.lines import backward, committed, forward, window
from emulator.telemetry.logs.writing import LogWriter as LogWriter
from emulator.telemetry.logs.writing import Tails

PAGE_EVENTS = 10_000
PAGE_BYTES = 1 << 20
"""An answer holds at most so much (API reference)."""
NO_GROUP = "The specified log group does not exist."
NO_STREAM = "The specified log stream does not exist."

RETENTION_FILE = "retention"
"""A file in a group's folder: the days for which its events are kept, instead of the default."""
_DAY = 86_400.0
_SUFFIX = ".log"
_MARKER = "created"
"""A file in a group's folder; its time is the group's creation time."""


@dataclass(frozen=True)
class LogPage:
    """Events in their order; `start` and `end` are where the pages beside it meet it."""

    events: tuple[LogEvent, ...]
    start: int
    end: int


@dataclass(frozen=True)
class StreamInfo:
    """A stream as DescribeLogStreams tells of it; times in epoch milliseconds."""

    name: str
    created: int
    first: int | None
    last: int | None


@dataclass(frozen=True)
class GroupInfo:
    """A log group; `created` in epoch milliseconds."""

    name: str
    created: int
    stored_bytes: int


class LogStore:
    """All log groups of all scopes, below one directory."""

    def __init__(self, root: Path):
        self._root = root
        self._tails = Tails()

    def writer(self, scope: Scope, group: str, stream: str) -> LogWriter:
        """Open a stream for appending, made with its group when it is new."""
        self.make_group(scope, group)
        return LogWriter(self._tails, self.path(scope, group, stream))

    def make_group(self, scope: Scope, group: str) -> None:
        """Nothing happens where there is one. Raises OSError."""
        self.path(scope, group).mkdir(parents=True, exist_ok=True)
        self.mark(scope, group)

    def received(self, scope: Scope, group: str, stream: str) -> int:
        """How many bytes of its instance's output a stream has; for one whose instance is silent.

        Lines of a piece that a kill cut off are removed: the whole piece is still to come.
        """
        with self._tails.held(self.path(scope, group, stream)) as tail:
            return tail.received()

    def mark(self, scope: Scope, group: str) -> None:
        """Keep the moment a group was made, which its folder's own time does not."""
        if not (marker := self.path(scope, group) / _MARKER).exists():
            marker.touch()

    def require(self, scope: Scope, group: str, stream: str | None = None) -> None:
        """Raise ResourceNotFound where there is no such group, or no such stream in it."""
        # These are False for impossible names, too.
        if not os.path.isdir(self.path(scope, group)):  # noqa: PTH112
            raise ResourceNotFound(NO_GROUP)
        if stream is not None and not os.path.isfile(self.path(scope, group, stream)):  # noqa: PTH113
            raise ResourceNotFound(NO_STREAM)

    def path(self, scope: Scope, group: str, stream: str | None = None) -> Path:
        """Where a group or a stream lies, whether or not it exists."""
        folder = self._root / scope.account / scope.region / _file_name(group)
        return folder if stream is None else folder / f"{_file_name(stream)}{_SUFFIX}"

    def groups(self, scope: Scope, prefix: str = "") -> list[GroupInfo]:
        """The scope's groups in the order of their names."""
        names = sorted(_listed(self._root / scope.account / scope.region, prefix, ""))
        return [self._group(scope, name) for name in names]

    def stream_names(self, scope: Scope, group: str, prefix: str = "") -> list[str]:
        """The group's streams in the order of their names; raises ResourceNotFound."""
        self.require(scope, group)
        return sorted(_listed(self.path(scope, group), prefix, _SUFFIX))

    def stream(self, scope: Scope, group: str, name: str) -> StreamInfo:
        """What is known of one stream; raises ResourceNotFound."""
        with self._open(scope, group, name) as file:
            size = committed(file)
            first = next(forward(file, 0, size), None)
            last = next(backward(file, size, 0), None)
            created = first.timestamp if first else int(os.fstat(file.fileno()).st_mtime * 1000)
        return StreamInfo(
            name, created, first.timestamp if first else None, last.timestamp if last else None
        )

    def is_position(self, scope: Scope, group: str, stream: str, offset: int) -> bool:
        """Does an event of the stream end (or the first one start) at this offset?"""
        with self._open(scope, group, stream) as file:
            if not 0 <= offset <= committed(file):
                return False
            file.seek(max(offset - 1, 0))
            return offset == 0 or file.read(1) == b"\n"

    def forward(
        self,
        scope: Scope,
        group: str,
        stream: str,
        *,
        offset: int = 0,
        since: int = 0,
        until: int | None = None,
        limit: int = PAGE_EVENTS,
    ) -> LogPage:
        """The events from `offset` on with since <= timestamp < until; raises ResourceNotFound."""
        with self._open(scope, group, stream) as file:
            low, high = window(file, since, until)
            start = max(offset, low)
            events = tuple(_page(forward(file, start, high), limit))
        return LogPage(events, start, events[-1].end if events else start)

    def backward(
        self,
        scope: Scope,
        group: str,
        stream: str,
        *,
        offset: int | None = None,
        since: int = 0,
        until: int | None = None,
        limit: int = PAGE_EVENTS,
    ) -> LogPage:
        """The last such events before `offset` (None: the end of the stream)."""
        with self._open(scope, group, stream) as file:
            low, high = window(file, since, until)
            end = high if offset is None else min(offset, high)
            events = tuple(_page(backward(file, end, low), limit))[::-1]
        return LogPage(events, events[0].start if events else end, end)

    def prune(self, before: float, now: float) -> int:
        """Remove streams that were last written before a time in epoch seconds.

        A group with days of its own (PutRetentionPolicy) follows those. Streams that are being
        written stay. Returns how many went; raises OSError.
        """
        removed = 0
        for folder in self._root.glob("*/*/*"):
            days = _days_of(folder)
            oldest = before if days is None else now - days * _DAY
            for file in folder.glob(f"*{_SUFFIX}"):
                if file.stat().st_mtime < oldest:
                    removed += self._tails.remove_unless_open(file)
        return removed

    def _group(self, scope: Scope, name: str) -> GroupInfo:
        folder = self.path(scope, name)
        created = int((folder / _MARKER).stat().st_mtime * 1000)
        with os.scandir(folder) as entries:
            stored = sum(entry.stat().st_size for entry in entries)
        return GroupInfo(name, created, stored)

    @contextmanager
    def _open(self, scope: Scope, group: str, stream: str) -> Iterator[BinaryIO]:
        folder = self.path(scope, group)
        try:
            file = self.path(scope, group, stream).open("rb")
        except OSError as error:
            known = os.path.isdir(folder)  # noqa: PTH112
            raise ResourceNotFound(NO_STREAM if known else NO_GROUP) from error
        with file:
            yield file


def _page(events: Iterator[LogEvent], limit: int) -> Iterator[LogEvent]:
    """As many events as one answer holds, and always one."""
    room = PAGE_BYTES
    for count, event in enumerate(events):
        # The service counts 26 bytes beside each message; here the line's own ones stand for them.
        room -= event.end - event.start
        if count >= limit or (count and room < 0):
            return
        yield event


def _days_of(folder: Path) -> int | None:
    try:
        return int((folder / RETENTION_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _file_name(name: str) -> str:
    """A name as a file name: no slashes, and dots only where we put them."""
    return quote(name, safe="").replace(".", "%2E")


def _listed(folder: Path, prefix: str, suffix: str) -> Iterator[str]:
    """The names in a folder that start so, from file names that end so."""
    start = _file_name(prefix)  # SDKs ask for one job's streams among those of all jobs
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(start) and entry.name.endswith(suffix):
                    yield unquote(entry.name.removesuffix(suffix))
    except FileNotFoundError:
        return
