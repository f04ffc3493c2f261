"""What a job's transfers say about themselves: in Describe's message and in the job's log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from emulator.data.objectstore.transfer_rate import Pace
from emulator.model.errors import ApiError, IllegalTransition
from emulator.model.workload import WorkloadSpec
from emulator.telemetry.logs.collector import notice
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.run.clock import Clock
from emulator.workloads.store.runs import JobStore

QUIET_SECONDS = 5.0
"""Shorter transfers say nothing, and longer ones not more often: SDKs print each new message."""
_log = logging.getLogger(__name__)


class Reports(Protocol):
    """Tells people what happens to a job's data."""

    def status(self, spec: WorkloadSpec, message: str) -> None:
        """Replace the StatusMessage of the job's current status."""
        ...

    def line(self, spec: WorkloadSpec, text: str) -> None:
        """A line in the log of every instance, once no instance writes any more."""
        ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True)
class JobReports:
    """Reports into the store and the log streams of the emulator."""

    records: JobStore
    logs: LogStore
    clock: Clock = field(default_factory=Clock)

    def status(self, spec: WorkloadSpec, message: str) -> None:
        now = self.clock.now()
        try:
            self.records.change(spec.id, lambda life: life.say(message, now))
        except (ApiError, IllegalTransition) as error:
            _log.debug("%s: %s: %s", spec.label, message, error)

    def line(self, spec: WorkloadSpec, text: str) -> None:
        try:
            notice(self.logs, spec, text, self.clock.now)
        except OSError:
            _log.exception("%s: not in its log: %s", spec.label, text)

    def monotonic(self) -> float:
        return self.clock.monotonic()


class Meter:
    """Watches one transfer and says now and then how far it is; threads may share it."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        say: Callable[[str], None],
        quiet: float = QUIET_SECONDS,
    ):
        self._monotonic = monotonic
        self._say = say
        self._quiet = quiet
        self._lock = Lock()
        self._began = monotonic()
        self._last = self._began
        self.said = False
        """Has anything been said?"""

    def __call__(self, done: int, total: int) -> None:
        """The transfer has come so far (bytes)."""
        now = self._monotonic()
        with self._lock:
            if now - self._last < self._quiet:
                return
            self._last = now
            self.said = True
        self._say(str(Pace(done, total, now - self._began)))
