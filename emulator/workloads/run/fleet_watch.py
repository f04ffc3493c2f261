"""From the launch of a job's instances to the last one's end."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from emulator.drivers.base import Fleet, HandsOver, OutOfReach, Unreachable
from emulator.model.plan import Exit
from emulator.model.run_record import Cause, Ending, Reason
from emulator.telemetry.logs.collector import LineCollector
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.context import Ends, RunContext

TICK_SECONDS = 0.2
"""How often a watch looks beside its instances' ends; an end itself is seen at once."""
_AFTER_KILL_SECONDS = 10.0


def stops(ending: Ending, token: CancelToken) -> bool:
    """Whether the job is stopped with it; a shutdown of the emulator fails it."""
    cancelled = ending.cause is Cause.CANCELLED and token.reason is not Reason.SHUTDOWN
    return cancelled or ending.cause is Cause.TIME


def grace_of(ending: Ending, context: RunContext) -> float:
    """Seconds that instances have between SIGTERM and SIGKILL."""
    if ending.cause is Cause.INTERRUPTED:
        return context.spot_notice
    failed = ending.cause in (Cause.FAILED, Cause.HUNG, Cause.LOST)
    return context.failure_grace if failed else context.stop_grace


class FleetWatch:
    """Sees the instances end, and ends them."""

    def __init__(
        self,
        fleet: Fleet,
        hosts: Iterable[str],
        lines: LineCollector,
        token: CancelToken,
        monotonic: Callable[[], float],
    ):
        self._fleet = fleet
        self._running = set(hosts)
        self._lines = lines
        self._token = token
        self._monotonic = monotonic
        self._exits: dict[str, Exit] = {}
        self._asked: frozenset[str] = frozenset()

    @property
    def ends(self) -> Ends:
        """How the instances have ended so far."""
        return Ends(dict(self._exits), self._asked)

    def until_over(self, seconds: float, trouble: Callable[[float], Ending | None]) -> Ending:
        """Wait until all have ended, one has failed, or the job has to end early.

        `seconds` is what is left of MaxRuntimeInSeconds; `trouble` is asked now and then what
        befalls instances that have been training for so many seconds.
        """
        started = self._monotonic()
        while self._running:
            end = self._next(min(TICK_SECONDS, started + seconds - self._monotonic()))
            if end and (end.code or end.lost):
                return Ending(Cause.FAILED, end)
            if self._running and (ending := self._called_off(started, seconds, trouble)):
                return ending
        return Ending(Cause.DONE)

    def end_all(self, grace: float, hurried_grace: float) -> None:
        """SIGTERM, up to `grace` seconds, SIGKILL; a shutdown shortens the grace.

        What they have written can be read afterwards: the last copies are made of it.
        Instances that are out of reach are waited for. Raises Unreachable when the emulator
        ends before: they go on then.
        """
        if self._running:
            self._end_running(grace, hurried_grace)
        if isinstance(self._fleet, HandsOver):
            self._fleet.hand_over()

    def _end_running(self, grace: float, hurried_grace: float) -> None:
        self._asked = frozenset(self._running)
        self._fleet.terminate()
        started = self._monotonic()
        while self._running:
            if self._out_of_reach():
                started = self._monotonic()  # the grace begins when they hear of it
            patience = min(grace, hurried_grace) if self._token.hurry else grace
            left = started + patience - self._monotonic()
            if left <= 0 or self._token.at_once:
                break
            self._next(min(TICK_SECONDS, left))
        self._kill()

    def _called_off(
        self, started: float, seconds: float, trouble: Callable[[float], Ending | None]
    ) -> Ending | None:
        if self._token.end.is_set():
            return Ending(Cause.CANCELLED)
        trained = self._monotonic() - started
        if trained >= seconds:
            return Ending(Cause.TIME)
        if (away := self._token.take_interruption()) is not None:
            return Ending(Cause.INTERRUPTED, away=away)
        return trouble(trained)

    def _kill(self) -> None:
        if not self._running:
            return
        self._fleet.kill()
        deadline = self._monotonic() + _AFTER_KILL_SECONDS
        while self._running and (left := deadline - self._monotonic()) > 0:
            if self._out_of_reach():
                deadline = self._monotonic() + _AFTER_KILL_SECONDS
            self._next(min(TICK_SECONDS, left))

    def _out_of_reach(self) -> bool:
        away = isinstance(self._fleet, OutOfReach) and self._fleet.out_of_reach
        if away and self._token.hurry:
            raise Unreachable("The instances cannot be reached while the emulator ends")
        return away

    def _next(self, timeout: float) -> Exit | None:
        end = self._fleet.next_exit(max(timeout, 0))
        if end:
            self._running.discard(end.host)
            self._exits[end.host] = end
            self._lines.finish(end.host)
        self._lines.flush_stale()
        return end
