"""What an engine tells of a pull, for those who cannot wait for it for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

SILENCE_SECONDS = 600.0
"""An engine that unpacks a large layer may say nothing for minutes; none does so for longer."""
_TICK_SECONDS = 0.2

Record = Mapping[str, Any]


def records(
    pull: Callable[[], Iterable[Record]],
    cancelled: Callable[[], bool],
    silence: float = SILENCE_SECONDS,
) -> Iterator[Record]:
    """The records of a pull, up to its end or the moment when `cancelled()` turns true.

    Raises what `pull` raises, and TimeoutError after so many seconds without a record. The
    engine's client waits without a limit, from the request's first byte on: therefore it
    has a thread, which ends with the next record when nobody waits for it any more.
    """
    heard: queue.SimpleQueue[Record | Exception | None] = queue.SimpleQueue()
    given_up = threading.Event()
    threading.Thread(
        target=_follow, args=(pull, heard, given_up), name="image pull", daemon=True
    ).start()
    waited = 0.0
    try:
        while not cancelled():
            try:
                record = heard.get(timeout=min(_TICK_SECONDS, silence))
            except queue.Empty:
                waited += _TICK_SECONDS
                if waited >= silence:
                    raise TimeoutError(f"nothing of the pull for {silence:.0f} seconds") from None
                continue
            waited = 0.0
            if record is None:
                return
            if isinstance(record, Exception):
                raise record
            yield record
    finally:
        given_up.set()


def _follow(
    pull: Callable[[], Iterable[Record]],
    heard: queue.SimpleQueue[Record | Exception | None],
    given_up: threading.Event,
) -> None:
    try:
        for record in pull():
            if given_up.is_set():
                return  # which drops the connection: the engine gives the pull up as well
            heard.put(record)
    except Exception as error:  # noqa: BLE001 - a thread's top: it is raised where one waits
        heard.put(error)
    else:
        heard.put(None)
