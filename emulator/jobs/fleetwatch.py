"""From the launch of a job's instances to the last one's end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from threading import Event

from emulator.logs.collector import LineCollector
from emulator.model.plan import Exit
from emulator.runtimes.base import Fleet

TICK_SECONDS = 0.2
"""How often a watch looks beside its instances' ends; an end itself is seen at once."""
_AFTER_KILL_SECONDS = 10.0


class Wish:
    """What the outside wants of a running job."""

    def __init__(self) -> None:
        self.end = Event()
        """The job shall end early; whatever waits or loads data listens to it."""
        self.hurry = False
        """The emulator itself is going down."""

    def stop(self) -> None:
        self.end.set()

    def shut_down(self) -> None:
        self.hurry = True
        self.end.set()


class Cause(Enum):
    """Why training is over."""

    DONE = "every instance ended with 0"
    FAILED = "an instance failed"
    WISH = "a stop or a shutdown was asked for"
    TIME = "MaxRuntimeInSeconds passed"


@dataclass(frozen=True)
class Ending:
    """How training ended; `failed` is the first instance that did not end with 0."""

    cause: Cause
    failed: Exit | None = None


class FleetWatch:
    """Sees the instances end, and ends them."""

    def __init__(
        self,
        fleet: Fleet,
        hosts: Iterable[str],
        lines: LineCollector,
        wish: Wish,
        monotonic: Callable[[], float],
    ):
        self._fleet = fleet
        self._running = set(hosts)
        self._lines = lines
        self._wish = wish
        self._monotonic = monotonic

    def until_over(self, seconds: float) -> Ending:
        """Wait until all have ended, one has failed, or the job has to end early.

        `seconds` is what is left of MaxRuntimeInSeconds.
        """
        deadline = self._monotonic() + seconds
        while self._running:
            end = self._next(min(TICK_SECONDS, deadline - self._monotonic()))
            if end and (end.code or end.lost):
                return Ending(Cause.FAILED, end)
            if self._running and self._wish.end.is_set():
                return Ending(Cause.WISH)
            if self._running and self._monotonic() >= deadline:
                return Ending(Cause.TIME)
        return Ending(Cause.DONE)

    def end_all(self, grace: float, hurried_grace: float) -> None:
        """SIGTERM, up to `grace` seconds, SIGKILL; a shutdown shortens the grace."""
        if not self._running:
            return
        self._fleet.terminate()
        started = self._monotonic()
        while self._running:
            patience = min(grace, hurried_grace) if self._wish.hurry else grace
            left = started + patience - self._monotonic()
            if left <= 0:
                break
            self._next(min(TICK_SECONDS, left))
        self._kill()

    def _kill(self) -> None:
        if not self._running:
            return
        self._fleet.kill()
        deadline = self._monotonic() + _AFTER_KILL_SECONDS
        while self._running and (left := deadline - self._monotonic()) > 0:
            self._next(min(TICK_SECONDS, left))

    def _next(self, timeout: float) -> Exit | None:
        end = self._fleet.next_exit(max(timeout, 0))
        if end:
            self._running.discard(end.host)
            self._lines.finish(end.host)
        self._lines.flush_stale()
        return end
