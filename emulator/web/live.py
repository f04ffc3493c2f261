"""Server-sent events: what has changed on a page since it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeAlias

from starlette.concurrency import run_in_threadpool

from emulator.web.api import as_json

LOOK_SECONDS = 1.0
_QUIET_LOOKS = 15
"""Then a comment is sent: a client that is gone is noticed only by sending."""

Fragments: TypeAlias = Mapping[str, str]
"""By the id of an element, the HTML in it."""
Render: TypeAlias = "Callable[[], tuple[Fragments, Mapping[str, object]]]"
"""The fragments of a page, and data for its scripts."""


async def changes(render: Render, closing: Callable[[], bool]) -> AsyncIterator[str]:
    """Events of a page, until the emulator ends.

    `fragment` brings new HTML of an element, `data` what scripts go by. `render` is called once a
    second in another thread.
    """
    fragments: dict[str, str] = {}
    data: Mapping[str, object] = {}
    quiet = 0
    yield "retry: 2000\n\n"
    while not closing():
        now, news = await run_in_threadpool(render)
        quiet += 1
        for name, html in now.items():
            if fragments.get(name) != html:
                fragments[name] = html
                quiet = 0
                yield _event("fragment", {"id": name, "html": html})
        if news != data:
            data, quiet = news, 0
            yield _event("data", news)
        if quiet >= _QUIET_LOOKS:
            quiet = 0
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_SECONDS)


def _event(name: str, value: object) -> str:
    return f"event: {name}\ndata: {as_json(value)}\n\n"
