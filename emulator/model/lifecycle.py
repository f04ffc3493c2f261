"""The life of a workload that runs to its end, as a value: every change makes a new one, illegal
ones raise.

How statuses and times relate was seen from the service's training jobs. What a phase is called in
an answer, and the words for it, are those of the workload's kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from emulator.model.errors import FAILURE_REASON_LIMIT, IllegalTransition


class Status(str, Enum):
    """TrainingJobStatus and ProcessingJobStatus: the same words."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.STOPPED)


class Phase(str, Enum):
    """What happens to a workload now: of a training job, its SecondaryStatus."""

    STARTING = "Starting"
    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    RUNNING = "Running"
    """Its instances run; a training job calls it Training."""
    INTERRUPTED = "Interrupted"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"


@dataclass(frozen=True)
class Words:
    """What a kind of workload says of its phases: StatusMessage of a training job's transitions."""

    starting: str
    preparing: str
    """Capacity is there; directories, data and image come next."""
    pending: str
    """It waits for capacity."""
    downloading: str
    """Of input data."""
    downloading_image: str
    running: str
    uploading: str
    stopping: str
    interrupted: str
    completed: str
    failed: str
    stopped: str
    max_runtime_exceeded: str
    max_wait_time_exceeded: str

    def of(self, phase: Phase) -> str:
        """What is said of a workload that enters this phase."""
        return str(getattr(self, phase.name.lower()))


_STOPPED = (Phase.STOPPED, Phase.MAX_RUNTIME_EXCEEDED, Phase.MAX_WAIT_TIME_EXCEEDED)
# A retry after an internal error goes back to the start, whatever the job did (RetryStrategy).
_NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset(
        {
            Phase.STARTING,
            Phase.PENDING,
            Phase.DOWNLOADING,
            Phase.STOPPING,
            Phase.FAILED,
        }
    ),
    Phase.PENDING: frozenset({Phase.STARTING, Phase.DOWNLOADING, Phase.STOPPING, Phase.FAILED}),
    Phase.DOWNLOADING: frozenset(
        {
            Phase.STARTING,
            Phase.RUNNING,
            Phase.INTERRUPTED,
            Phase.STOPPING,
            Phase.FAILED,
        }
    ),
    Phase.RUNNING: frozenset(
        {
            Phase.STARTING,
            Phase.UPLOADING,
            Phase.INTERRUPTED,
            Phase.STOPPING,
            Phase.FAILED,
        }
    ),
    Phase.INTERRUPTED: frozenset({Phase.STARTING, Phase.STOPPING, Phase.FAILED}),
    Phase.UPLOADING: frozenset(
        {
            Phase.STARTING,
            Phase.COMPLETED,
            Phase.STOPPING,
            Phase.FAILED,
            *_STOPPED,
        }
    ),
    Phase.STOPPING: frozenset({Phase.UPLOADING, Phase.FAILED, *_STOPPED}),
}
WITH_INSTANCES = (Phase.RUNNING, Phase.UPLOADING, Phase.STOPPING)
"""Phases in which instances may run."""
_WITHOUT_INSTANCES = (Phase.INTERRUPTED, Phase.STARTING, Phase.PENDING)
_TERMINAL = {
    Phase.COMPLETED: Status.COMPLETED,
    Phase.FAILED: Status.FAILED,
    **dict.fromkeys(_STOPPED, Status.STOPPED),
}


@dataclass(frozen=True)
class Transition:
    """One entry of PhaseStatusTransitions; times in epoch seconds."""

    status: Phase
    started: float
    message: str
    ended: float | None = None


@dataclass(frozen=True)
class Lifecycle:
    """Where a job stands and how it got there; times in epoch seconds, whole milliseconds."""

    status: Status
    transitions: tuple[Transition, ...]
    modified: float
    started: float | None = None
    """When its data began to be downloaded for the first time."""
    ended: float | None = None
    """When it came to its end; None for one that never started."""
    failure_reason: str | None = None
    exit_message: str | None = None
    """What the instances said at their end, where the kind has such a message."""

    @classmethod
    def begin(cls, now: float, message: str = "") -> Lifecycle:
        """A workload that was just created."""
        now = _ms(now)
        return cls(
            status=Status.IN_PROGRESS,
            transitions=(Transition(Phase.STARTING, now, message),),
            modified=now,
        )

    @property
    def phase(self) -> Phase:
        return self.transitions[-1].status

    @property
    def created(self) -> float:
        """CreationTime: the moment of the first transition."""
        return self.transitions[0].started

    @property
    def stop_requested(self) -> bool:
        return self.status is Status.STOPPING

    @property
    def attempts(self) -> int:
        """How often the job was started, interruptions and retries counted."""
        return sum(entry.status is Phase.STARTING for entry in self.transitions)

    @property
    def held_seconds(self) -> float:
        """How long the job had instances since it started, in entries that are over."""
        first = self.started
        return sum(
            entry.ended - entry.started
            for entry in self.transitions
            if entry.ended is not None
            and first is not None
            and entry.started >= first
            and entry.status not in _WITHOUT_INSTANCES
        )

    def reused(self, message: str, now: float) -> Lifecycle:
        """Another job took over the warm pool: the last entry says so (seen)."""
        if not self.status.terminal:
            raise IllegalTransition("only the instances of a job that has ended are reused")
        last = replace(self.transitions[-1], message=message)
        return replace(self, transitions=(*self.transitions[:-1], last), modified=self._after(now))

    def say(self, message: str, now: float) -> Lifecycle:
        """Replace the current entry's message; the status stays."""
        self._refuse_if_terminal("a new message")
        current = replace(self.transitions[-1], message=message)
        return replace(
            self, transitions=(*self.transitions[:-1], current), modified=self._after(now)
        )

    def enter(self, phase: Phase, message: str, now: float) -> Lifecycle:
        """Move on to a status that is not terminal; raises IllegalTransition."""
        if phase in _TERMINAL:
            raise IllegalTransition(f"{phase.value} is an end: use finish()")
        now = self._after(now)
        started = self.started
        if phase is Phase.DOWNLOADING and started is None:
            started = now
        return replace(
            self,
            transitions=(*self._closed(phase, now), Transition(phase, now, message)),
            modified=now,
            started=started,
        )

    def request_stop(self, now: float) -> Lifecycle:
        """StopTrainingJob: the status says Stopping at once, the phase status later."""
        self._refuse_if_terminal("a stop")
        if self.status is Status.STOPPING:
            return self
        return replace(self, status=Status.STOPPING, modified=self._after(now))

    def finish(
        self, phase: Phase, message: str, now: float, failure_reason: str | None = None
    ) -> Lifecycle:
        """Reach a terminal status; the last entry starts and ends at the same moment."""
        if phase not in _TERMINAL:
            raise IllegalTransition(f"{phase.value} is not an end")
        now = self._after(now)
        last = Transition(phase, now, message, now)
        return replace(
            self,
            status=_TERMINAL[phase],
            transitions=(*self._closed(phase, now), last),
            modified=now,
            # A job that never got as far as its data has no such times at all.
            ended=None if self.started is None else now,
            failure_reason=failure_reason and failure_reason[:FAILURE_REASON_LIMIT],
        )

    def _closed(self, following: Phase, now: float) -> tuple[Transition, ...]:
        self._refuse_if_terminal(following.value)
        if following not in _NEXT[self.phase]:
            raise IllegalTransition(f"{self.phase.value} cannot become {following.value}")
        return (*self.transitions[:-1], replace(self.transitions[-1], ended=now))

    def _refuse_if_terminal(self, wish: str) -> None:
        if self.status.terminal:
            raise IllegalTransition(f"the job is {self.status.value}: no {wish}")

    def _after(self, now: float) -> float:
        """Never before what already happened, also when the wall clock was set back."""
        return max(_ms(now), self.modified)


def _ms(seconds: float) -> float:
    return round(seconds, 3)
