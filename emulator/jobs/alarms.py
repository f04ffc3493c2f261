"""Things to do at a time: one thread for the deadlines of all jobs."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable
from threading import Condition, Thread

_log = logging.getLogger(__name__)


class Alarm:
    """One thing to do, unless it is called off."""

    def __init__(self, ring: Callable[[], None]):
        self.ring = ring
        self.off = False

    def cancel(self) -> None:
        self.off = True
        # It stays in the queue until it is due, and must not hold a whole job that long.
        self.ring = _silent


def _silent() -> None:
    return


class Alarms:
    """Rings alarms by a monotonic clock. Any thread may set one."""

    def __init__(self, monotonic: Callable[[], float]):
        self._monotonic = monotonic
        self._changed = Condition()
        self._waiting: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._thread: Thread | None = None
        self._closed = False

    def after(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Call `ring` after so many seconds, in the thread of the alarms."""
        alarm = Alarm(ring)
        with self._changed:
            moment = self._monotonic() + seconds
            heapq.heappush(self._waiting, (moment, next(self._numbers), alarm))
            if self._thread is None and not self._closed:
                self._thread = Thread(target=self._run, name="alarms", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return alarm

    def close(self) -> None:
        """Nothing rings any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def ring_due(self) -> None:
        """Ring all whose time has come."""
        while alarm := self._next_due():
            if not alarm.off:
                alarm.ring()

    def _next_due(self) -> Alarm | None:
        with self._changed:
            if self._waiting and self._waiting[0][0] <= self._monotonic():
                return heapq.heappop(self._waiting)[2]
            return None

    def _run(self) -> None:
        while not self._closed:
            try:
                self.ring_due()
            except Exception:  # noqa: BLE001 - the top of this thread
                _log.exception("an alarm failed")
            with self._changed:
                if self._closed:
                    return
                left = self._waiting[0][0] - self._monotonic() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)
