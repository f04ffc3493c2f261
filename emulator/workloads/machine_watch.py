"""Looks at the machine every few seconds: what its GPUs and processors do, and whose GPUs idle.

The last minutes are kept in memory, for who looks at them. A job whose GPUs are unused for a set
time gets a line in its log, and is stopped where the settings say so.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread

from emulator.model.errors import ApiError
from emulator.model.lifecycle import Phase
from emulator.model.record import Job
from emulator.model.workload import WorkloadId
from emulator.placement.device import DriverProblem, GpuLoad, NoDriver
from emulator.placement.idle_gpus import IdleGpus
from emulator.placement.leases import Lease
from emulator.placement.machine_load import LoadMeter, MachineLoad
from emulator.telemetry.logs.collector import notice
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.run.clock import Clock
from emulator.workloads.store.runs import JobStore

LOOK_SECONDS = 2.0
KEPT_LOOKS = 300
"""Ten minutes."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """The machine at one moment."""

    at: float
    """Epoch seconds."""
    machine: MachineLoad
    gpus: Mapping[str, GpuLoad]
    """By UUID; one that does not answer is left out."""


@dataclass(frozen=True)
class IdlePolicy:
    """What becomes of jobs whose GPUs are unused."""

    seconds: float = 0
    """For which all GPUs of a running job must have been unused; 0: nobody minds."""
    stop: bool = False
    """Such a job is stopped; else it is marked only."""


class MachineWatch:
    """A thread that looks, and what it has seen. Any thread may ask."""

    def __init__(
        self,
        read_gpus: Callable[[], Mapping[str, GpuLoad]],
        leases: Callable[[], Iterable[Lease]],
        stop: Callable[[WorkloadId], object],
        records: JobStore,
        logs: LogStore,
        policy: IdlePolicy,
        clock: Clock | None = None,
        meter: LoadMeter | None = None,
    ):
        """`read_gpus` may raise NoDriver or DriverProblem; `leases` are those of all jobs.

        `stop` stops a job as StopTrainingJob does; it may raise ApiError.
        """
        self._read_gpus = read_gpus
        self._leases = leases
        self._stop = stop
        self._records = records
        self._logs = logs
        self._policy = policy
        self._clock = clock or Clock()
        self._meter = meter or LoadMeter()
        self._lock = Lock()
        self._looks: deque[Look] = deque(maxlen=KEPT_LOOKS)
        self._idle = IdleGpus()
        self._marked: dict[str, float] = {}
        """By the ARN of each job that is marked, since when its GPUs are unused."""
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Look until `close`."""
        self._thread = Thread(target=self._watch, name="machine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No look is under way when this returns."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def looks(self) -> list[Look]:
        """Those of the last minutes, oldest first."""
        with self._lock:
            return list(self._looks)

    def marked(self) -> dict[str, float]:
        """By ARN, the jobs whose GPUs are unused for the time of the policy, and since when."""
        with self._lock:
            return dict(self._marked)

    def look(self) -> None:
        """Look once. Raises sqlite3.Error where the database does not answer."""
        now = self._clock.now()
        try:
            gpus = dict(self._read_gpus())
        except (NoDriver, DriverProblem) as error:
            _log.debug("The GPUs are not seen: %s", error)
            gpus = {}
        look = Look(now, self._meter.read(), gpus)
        self._idle.look(self._leases() if gpus else (), gpus, now)
        with self._lock:
            self._looks.append(look)
        if self._policy.seconds:
            self._judge(now)

    def _judge(self, now: float) -> None:
        found: dict[str, Job] = {}
        for arn, since in self._idle.since.items():
            if now - since >= self._policy.seconds and (job := self._running(arn, now)):
                found[arn] = job
        with self._lock:
            before = self._marked
            self._marked = {arn: self._idle.since[arn] for arn in found}
        for arn in found.keys() - before.keys():
            self._mark(found[arn], now - self._idle.since[arn])
        for arn in before.keys() - found.keys():
            if arn not in self._idle.since and (job := self._records.by_arn(arn)):
                self._say(job, "Its GPUs are used again.")

    def _running(self, arn: str, now: float) -> Job | None:
        """The job if its instances have run for the time of the policy: data comes before."""
        job = self._records.by_arn(arn)
        if job is None or job.life.phase is not Phase.RUNNING:
            return None
        return job if now - job.life.transitions[-1].started >= self._policy.seconds else None

    def _mark(self, job: Job, seconds: float) -> None:
        since = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        told = f"None of its GPUs has been used for {since}"
        if not self._policy.stop:
            self._say(job, f"{told}.")
            return
        self._say(job, f"{told}: it is stopped (EMULATOR_GPU_IDLE_ACTION).")
        try:
            self._stop(job.spec.id)
        except ApiError as error:
            _log.debug("%s: %s", job.spec.label, error)  # it has ended by itself

    def _say(self, job: Job, text: str) -> None:
        _log.warning("%s: %s", job.spec.label, text)
        try:
            notice(self._logs, job.spec, text, self._clock.now)
        except OSError as error:
            _log.warning("%s: not in its log: %s", job.spec.label, error)

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except (sqlite3.Error, OSError) as error:
                _log.warning("The machine was not looked at: %s", error)
            except Exception:  # noqa: BLE001 - the top of this thread
                _log.exception("The machine is not watched any more")
                return
            self._ended.wait(LOOK_SECONDS)
