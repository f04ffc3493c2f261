"""Lines of log streams, a window at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from emulator.model.errors import ResourceNotFound
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import NO_STREAM, LogStore
from emulator.web import models

LINES = 500
"""In one answer."""
_PAGE = 10_000
_SEARCHED_SECONDS = 5.0


@dataclass(frozen=True)
class Place:
    """The streams of one job or endpoint."""

    scope: Scope
    group: str
    prefix: str = ""
    """Of the names of the streams."""


class Logs:
    """Every method but `streams` raises ResourceNotFound for a stream that is not of the place."""

    def __init__(self, store: LogStore):
        self._store = store

    def streams(self, place: Place) -> list[models.LogStream]:
        """All of them, named without the prefix."""
        try:
            names = self._store.stream_names(place.scope, place.group, place.prefix)
        except ResourceNotFound:
            return []
        found = []
        for name in names:
            with suppress(OSError):
                size = self._store.path(place.scope, place.group, name).stat().st_size
                instance = name[len(place.prefix) :]
                found.append(models.LogStream(instance=instance, stream=name, size=size))
        return found

    def lines(
        self,
        place: Place,
        stream: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = LINES,
    ) -> models.LogLines:
        """Lines that follow the offset `after`, else the last ones before `before` or the end."""
        where = (place.scope, place.group, _checked(place, stream))
        if after is not None and self._store.is_position(*where, after):
            page = self._store.forward(*where, offset=after, limit=limit)
        else:
            page = self._store.backward(*where, offset=before, limit=limit)
        return models.LogLines(
            start=page.start,
            end=page.end,
            size=self._store.path(*where).stat().st_size,
            lines=[
                models.LogLine(
                    start=event.start,
                    end=event.end,
                    at=event.timestamp / 1000,
                    text=event.message,
                )
                for event in page.events
            ],
        )

    def search(self, place: Place, stream: str, text: str, after: int = 0) -> models.LogLines:
        """The first lines from the offset `after` on that contain a text, in upper or lower case.

        `end` is where the search ended: it takes a few seconds at most.
        """
        wanted, deadline = text.lower(), time.monotonic() + _SEARCHED_SECONDS
        found = self.lines(place, stream, after=after, limit=1)
        hits: list[models.LogLine] = []
        end = after
        for page in self._pages(place, stream, after):
            for event in page.lines:
                end = event.end
                if wanted in event.text.lower():
                    hits.append(event)
                    if len(hits) == LINES:
                        break
            if len(hits) == LINES or time.monotonic() > deadline:
                break
        return found.model_copy(update={"start": after, "end": end, "lines": hits})

    def text(self, place: Place, stream: str) -> Iterator[str]:
        """All lines."""
        first = self.lines(place, stream, after=0, limit=1)  # raises before anything is sent
        return self._text(place, stream) if first.lines else iter(())

    def _text(self, place: Place, stream: str) -> Iterator[str]:
        for page in self._pages(place, stream, 0):
            yield "".join(f"{line.text}\n" for line in page.lines)

    def _pages(self, place: Place, stream: str, after: int) -> Iterator[models.LogLines]:
        page = self.lines(place, stream, after=after, limit=_PAGE)
        while page.lines:
            yield page
            page = self.lines(place, stream, after=page.end, limit=_PAGE)


def _checked(place: Place, stream: str) -> str:
    if not stream.startswith(place.prefix):
        raise ResourceNotFound(NO_STREAM)
    return stream
