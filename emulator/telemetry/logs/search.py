"""The events of many streams as one sequence, ordered by time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import PAGE_BYTES, PAGE_EVENTS, LogEvent, LogStore

_READ_AHEAD = 10_000
"""Events read ahead, of all streams that are merged together."""
_PAGE = 500
"""Events read from one stream at a time, at most."""
_SCAN_BYTES = 16 << 20
"""One answer looks at no more of the logs than this; it may then be short or empty."""


@dataclass(frozen=True)
class Position:
    """An event's place in the order of all streams; `end` is its end in its own stream."""

    timestamp: int
    stream: str
    end: int


@dataclass(frozen=True)
class Found:
    """An event and the stream it is from."""

    stream: str
    event: LogEvent


@dataclass(frozen=True)
class SearchPage:
    """Matching events; `next` is where the search goes on (None: all was searched)."""

    found: tuple[Found, ...]
    next: Position | None


def search(
    store: LogStore,
    scope: Scope,
    group: str,
    streams: Sequence[str],
    matches: Callable[[str], bool],
    *,
    since: int = 0,
    until: int | None = None,
    after: Position | None = None,
    limit: int = PAGE_EVENTS,
) -> SearchPage:
    """Events whose message matches, since <= timestamp < until, by time and then stream."""
    ahead = max(1, min(_PAGE, _READ_AHEAD // max(1, len(streams))))
    merged = heapq.merge(
        *(_events(store, scope, group, name, since, until, after, ahead) for name in streams),
        key=lambda found: (found.event.timestamp, found.stream),
    )
    found: list[Found] = []
    scanned = kept = 0
    last = after
    for candidate in merged:
        event = candidate.event
        size = event.end - event.start
        hit = matches(event.message)
        full = len(found) == limit or (hit and found and kept + size > PAGE_BYTES)
        if full or scanned > _SCAN_BYTES:
            return SearchPage(tuple(found), last)
        scanned += size
        last = Position(event.timestamp, candidate.stream, event.end)
        if hit:
            kept += size
            found.append(candidate)
    return SearchPage(tuple(found), None)


def _events(
    store: LogStore,
    scope: Scope,
    group: str,
    stream: str,
    since: int,
    until: int | None,
    after: Position | None,
    ahead: int,
) -> Iterator[Found]:
    offset = 0
    if after is not None:
        # Of the moment the last page ended at, streams before that event's are done.
        done = stream < after.stream
        since = max(since, after.timestamp + 1 if done else after.timestamp)
        offset = after.end if stream == after.stream else 0
    while True:
        page = store.forward(
            scope, group, stream, offset=offset, since=since, until=until, limit=ahead
        )
        if not page.events:
            return
        yield from (Found(stream, event) for event in page.events)
        offset = page.end
