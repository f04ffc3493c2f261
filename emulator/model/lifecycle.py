"""The life of a training job as a value: every change makes a new one, illegal ones raise.

Statuses, messages and how their times relate are those seen from the service.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from emulator.model.errors import FAILURE_REASON_LIMIT, IllegalTransition


class Status(str, Enum):
    """TrainingJobStatus."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.STOPPED)


class Secondary(str, Enum):
    """SecondaryStatus."""

    STARTING = "Starting"
    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    INTERRUPTED = "Interrupted"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"


STARTING = "Starting the training job"
PREPARING = "Preparing the instances for training"
WAITING_FOR_CAPACITY = "Training job waiting for capacity"
DOWNLOADING_DATA = "Downloading input data"
DOWNLOADING_IMAGE = "Downloading the training image"
TRAINING = "Training image download completed. Training in progress."
UPLOADING = "Uploading generated training model"
STOPPING = "Stopping the training job"
COMPLETED = "Training job completed"
FAILED = "Training job failed"
STOPPED = "Training job stopped"
MAX_RUNTIME_EXCEEDED = "Training job runtime exceeded MaxRuntimeInSeconds provided"
MAX_WAIT_TIME_EXCEEDED = "Training job wait time exceeded MaxWaitTimeInSeconds provided"
INTERRUPTED = "Training job interrupted"
REUSED_BY = "Resource reused by training job: {}"

_STOPPED = (Secondary.STOPPED, Secondary.MAX_RUNTIME_EXCEEDED, Secondary.MAX_WAIT_TIME_EXCEEDED)
# A retry after an internal error goes back to the start, whatever the job did (RetryStrategy).
_NEXT: dict[Secondary, frozenset[Secondary]] = {
    Secondary.STARTING: frozenset(
        {
            Secondary.STARTING,
            Secondary.PENDING,
            Secondary.DOWNLOADING,
            Secondary.STOPPING,
            Secondary.FAILED,
        }
    ),
    Secondary.PENDING: frozenset(
        {Secondary.STARTING, Secondary.DOWNLOADING, Secondary.STOPPING, Secondary.FAILED}
    ),
    Secondary.DOWNLOADING: frozenset(
        {
            Secondary.STARTING,
            Secondary.TRAINING,
            Secondary.INTERRUPTED,
            Secondary.STOPPING,
            Secondary.FAILED,
        }
    ),
    Secondary.TRAINING: frozenset(
        {
            Secondary.STARTING,
            Secondary.UPLOADING,
            Secondary.INTERRUPTED,
            Secondary.STOPPING,
            Secondary.FAILED,
        }
    ),
    Secondary.INTERRUPTED: frozenset({Secondary.STARTING, Secondary.STOPPING, Secondary.FAILED}),
    Secondary.UPLOADING: frozenset(
        {
            Secondary.STARTING,
            Secondary.COMPLETED,
            Secondary.STOPPING,
            Secondary.FAILED,
            *_STOPPED,
        }
    ),
    Secondary.STOPPING: frozenset({Secondary.UPLOADING, Secondary.FAILED, *_STOPPED}),
}
_WITHOUT_INSTANCES = (Secondary.INTERRUPTED, Secondary.STARTING, Secondary.PENDING)
_TERMINAL = {
    Secondary.COMPLETED: Status.COMPLETED,
    Secondary.FAILED: Status.FAILED,
    **dict.fromkeys(_STOPPED, Status.STOPPED),
}


@dataclass(frozen=True)
class Transition:
    """One entry of SecondaryStatusTransitions; times in epoch seconds."""

    status: Secondary
    started: float
    message: str
    ended: float | None = None


@dataclass(frozen=True)
class Lifecycle:
    """Where a job stands and how it got there; times in epoch seconds, whole milliseconds."""

    status: Status
    transitions: tuple[Transition, ...]
    modified: float
    training_started: float | None = None
    training_ended: float | None = None
    failure_reason: str | None = None

    @classmethod
    def begin(cls, now: float) -> Lifecycle:
        """A job that was just created."""
        now = _ms(now)
        return cls(
            status=Status.IN_PROGRESS,
            transitions=(Transition(Secondary.STARTING, now, STARTING),),
            modified=now,
        )

    @property
    def secondary(self) -> Secondary:
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
        return sum(entry.status is Secondary.STARTING for entry in self.transitions)

    @property
    def held_seconds(self) -> float:
        """How long the job had instances since its training began, in entries that are over."""
        first = self.training_started
        return sum(
            entry.ended - entry.started
            for entry in self.transitions
            if entry.ended is not None
            and first is not None
            and entry.started >= first
            and entry.status not in _WITHOUT_INSTANCES
        )

    def reused_by(self, job: str, now: float) -> Lifecycle:
        """Another job took over the warm pool: the last entry says so (seen)."""
        if not self.status.terminal:
            raise IllegalTransition("only the instances of a job that has ended are reused")
        last = replace(self.transitions[-1], message=REUSED_BY.format(job))
        return replace(self, transitions=(*self.transitions[:-1], last), modified=self._after(now))

    def say(self, message: str, now: float) -> Lifecycle:
        """Replace the current entry's message; the status stays."""
        self._refuse_if_terminal("a new message")
        current = replace(self.transitions[-1], message=message)
        return replace(
            self, transitions=(*self.transitions[:-1], current), modified=self._after(now)
        )

    def enter(self, secondary: Secondary, message: str, now: float) -> Lifecycle:
        """Move on to a status that is not terminal; raises IllegalTransition."""
        if secondary in _TERMINAL:
            raise IllegalTransition(f"{secondary.value} is an end: use finish()")
        now = self._after(now)
        started = self.training_started
        if secondary is Secondary.DOWNLOADING and started is None:
            started = now
        return replace(
            self,
            transitions=(*self._closed(secondary, now), Transition(secondary, now, message)),
            modified=now,
            training_started=started,
        )

    def request_stop(self, now: float) -> Lifecycle:
        """StopTrainingJob: the status says Stopping at once, the secondary status later."""
        self._refuse_if_terminal("a stop")
        if self.status is Status.STOPPING:
            return self
        return replace(self, status=Status.STOPPING, modified=self._after(now))

    def finish(
        self, secondary: Secondary, message: str, now: float, failure_reason: str | None = None
    ) -> Lifecycle:
        """Reach a terminal status; the last entry starts and ends at the same moment."""
        if secondary not in _TERMINAL:
            raise IllegalTransition(f"{secondary.value} is not an end")
        now = self._after(now)
        last = Transition(secondary, now, message, now)
        return replace(
            self,
            status=_TERMINAL[secondary],
            transitions=(*self._closed(secondary, now), last),
            modified=now,
            # A job that never got as far as its data has no training times at all.
            training_ended=None if self.training_started is None else now,
            failure_reason=failure_reason and failure_reason[:FAILURE_REASON_LIMIT],
        )

    def _closed(self, following: Secondary, now: float) -> tuple[Transition, ...]:
        self._refuse_if_terminal(following.value)
        if following not in _NEXT[self.secondary]:
            raise IllegalTransition(f"{self.secondary.value} cannot become {following.value}")
        return (*self.transitions[:-1], replace(self.transitions[-1], ended=now))

    def _refuse_if_terminal(self, wish: str) -> None:
        if self.status.terminal:
            raise IllegalTransition(f"the job is {self.status.value}: no {wish}")

    def _after(self, now: float) -> float:
        """Never before what already happened, also when the wall clock was set back."""
        return max(_ms(now), self.modified)


def _ms(seconds: float) -> float:
    return round(seconds, 3)
