"""Work on the next items while the result for the one before them is used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from emulator.data.objectstore.objects import Cancelled

THREADS = 8
AHEAD = 16
"""Results that may wait, or be on their way, at a time."""
_MOMENT = 0.2
"""Seconds."""
Stopping = Callable[[], bool]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ahead(
    work: Callable[[_Item, Stopping], _Result], items: Iterable[_Item], ended: Stopping
) -> Generator[_Result, None, None]:
    """What `work` makes of each item, in their order; raises what it raises, in its place.

    `work` is also told how to find out that it shall end: when `ended` says so, and when the
    generator is closed. It is not waited for for longer than a moment then.
    """
    team = _Team(work, ended)
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(team.begin(item))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        team.leave()


class _Team(Generic[_Item, _Result]):
    """As many threads as there is work for; daemons, so that no program's end waits for them."""

    def __init__(self, work: Callable[[_Item, Stopping], _Result], ended: Stopping):
        self._work = work
        self._ended = ended
        self._left = threading.Event()
        self._jobs: SimpleQueue[tuple[Future[_Result], _Item] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, item: _Item) -> Future[_Result]:
        future: Future[_Result] = Future()
        self._jobs.put((future, item))
        if len(self._threads) < THREADS:
            self._threads.append(threading.Thread(target=self._run, name="ahead", daemon=True))
            self._threads[-1].start()
        return future

    def leave(self) -> None:
        self._left.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(_MOMENT)

    def _stopping(self) -> bool:
        return self._left.is_set() or self._ended()

    def _run(self) -> None:
        while job := self._jobs.get():
            future, item = job
            try:
                if self._stopping():
                    raise Cancelled("work on the next items")
                future.set_result(self._work(item, self._stopping))
            except BaseException as error:  # noqa: BLE001 - a thread's top: the reader raises it
                future.set_exception(error)
