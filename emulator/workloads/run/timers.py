"""Things to do at a time: one thread for the deadlines of all jobs."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable
from threading import Condition, Thread

_log = logging.getLogger(__name__)


class Timer:
    """One thing to do, unless it is cancelled."""

    def __init__(self, ring: Callable[[], None], slow: bool):
        self.ring = ring
        self.slow = slow
        self.off = False

    def cancel(self) -> None:
        """Do not call it any more."""
        self.off = True
        # It stays in the queue until it is due, and must not hold a whole job that long.
        self.ring = _silent


def _silent() -> None:
    return


class Timers:
    """Calls functions at moments of a monotonic clock. Any thread may set a timer."""

    def __init__(self, monotonic: Callable[[], float]):
        self._monotonic = monotonic
        self._changed = Condition()
        self._waiting: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._thread: Thread | None = None
        self._closed = False

    def after(self, seconds: float, ring: Callable[[], None], slow: bool = False) -> Timer:
        """Call `ring` after so many seconds, in the thread of the timers.

        One that is `slow`, because it waits for a disk or a container engine, has a thread of
        its own, so that no other timer is late because of it.
        """
        timer = Timer(ring, slow)
        with self._changed:
            moment = self._monotonic() + seconds
            heapq.heappush(self._waiting, (moment, next(self._numbers), timer))
            if self._thread is None and not self._closed:
                thread = Thread(target=self._run, name="timers", daemon=True)
                # Where threads have run out the next timer starts it.
                self._thread = thread if _started(thread) else None
            self._changed.notify_all()
        return timer

    def close(self) -> None:
        """Nothing is called any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def ring_due(self) -> None:
        """Call all whose time has come; what one raises keeps no other from being called."""
        while timer := self._next_due():
            if timer.off:
                continue
            if timer.slow and _started(Thread(target=_ring, args=(timer,), daemon=True)):
                continue
            _ring(timer)

    def _next_due(self) -> Timer | None:
        with self._changed:
            if self._waiting and self._waiting[0][0] <= self._monotonic():
                return heapq.heappop(self._waiting)[2]
            return None

    def _run(self) -> None:
        while not self._closed:
            self.ring_due()
            with self._changed:
                if self._closed:
                    return
                left = self._waiting[0][0] - self._monotonic() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)


def _ring(timer: Timer) -> None:
    try:
        timer.ring()
    except Exception:  # noqa: BLE001 - the top of a thread
        _log.exception("a timer failed")


def _started(thread: Thread) -> bool:
    """False where there can be no more threads."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
