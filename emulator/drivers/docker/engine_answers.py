"""Answers of an engine, for those who cannot wait for them for ever.

The engine's client may wait without a limit, from the request's first byte on: therefore it
has a thread here, which ends with its next answer when nobody waits for it any more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NoReturn, TypeVar

SILENCE_SECONDS = 600.0
"""An engine that unpacks a large layer may say nothing for minutes; none does so for longer."""
_TICK_SECONDS = 0.2

Record = Mapping[str, Any]
_T = TypeVar("_T")


def records(
    pull: Callable[[], Iterable[Record]],
    cancelled: Callable[[], bool],
    silence: float = SILENCE_SECONDS,
) -> Iterator[Record]:
    """The records of a pull, up to its end or the moment when `cancelled()` turns true.

    Raises what `pull` raises, and TimeoutError after so many seconds without a record.
    """
    heard: queue.SimpleQueue[Record | BaseException | None] = queue.SimpleQueue()
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
            if isinstance(record, BaseException):
                raise record
            yield record
    finally:
        given_up.set()


def within(seconds: float, ask: Callable[[], _T]) -> _T:
    """What `ask` returns. Raises what it raises, and TimeoutError after so many seconds."""
    answers: queue.SimpleQueue[Callable[[], _T]] = queue.SimpleQueue()

    def fetch() -> None:
        try:
            answer = ask()
        except BaseException as error:  # noqa: BLE001 - a thread's top: raised where one waits
            answers.put(partial(_raise, error))
        else:
            answers.put(lambda: answer)

    threading.Thread(target=fetch, name="question to the engine", daemon=True).start()
    try:
        return answers.get(timeout=seconds)()
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None


def _raise(error: BaseException) -> NoReturn:
    raise error


def _follow(
    pull: Callable[[], Iterable[Record]],
    heard: queue.SimpleQueue[Record | BaseException | None],
    given_up: threading.Event,
) -> None:
    try:
        for record in pull():
            if given_up.is_set():
                return  # which drops the connection: the engine gives the pull up as well
            heard.put(record)
    except BaseException as error:  # noqa: BLE001 - a thread's top: raised where one waits
        heard.put(error)
    else:
        heard.put(None)
