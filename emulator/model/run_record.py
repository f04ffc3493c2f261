"""What an emulator writes down of a workload's attempt that runs, for itself and for the next one.

The record says what was decided, before it is done: the emulator may be killed at any moment.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum

from emulator.model.plan import Exit


class Reason(Enum):
    """Why a job shall end before its work is done."""

    STOP = "StopTrainingJob"
    MAX_WAIT = "MaxWaitTimeInSeconds passed"
    MAX_PENDING = "MaxPendingTimeInSeconds passed"
    SHUTDOWN = "the emulator is going down"


class Cause(Enum):
    """Why the instances of a workload are over."""

    DONE = "every instance ended with 0"
    FAILED = "an instance failed"
    LOST = "an instance was lost, or the platform failed"
    HUNG = "the instances wait for each other in vain"
    CANCELLED = "somebody or something asked for the job's end"
    TIME = "MaxRuntimeInSeconds passed"
    INTERRUPTED = "the spot instances are taken away"
    LEFT = "the emulator ends, and the instances go on without it"


@dataclass(frozen=True)
class Ending:
    """How the instances of a workload ended."""

    cause: Cause
    failed: Exit | None = None
    """The first instance that did not end with 0."""
    away: float = 0
    """Seconds until there is spot capacity again."""
    why: str = ""
    """What shows that the job hangs."""


@dataclass(frozen=True)
class RunRecord:
    """An attempt whose instances were started, as far as the lifecycle does not tell."""

    runtime: str
    """The name of the runtime that has the instances."""
    began: float
    """When they were started, in epoch seconds."""
    trained: float = 0.0
    """Seconds that earlier attempts have run."""
    retries: int = 0
    """How often the workload was tried again before."""
    cache: str | None = None
    """The directory that becomes a warm pool's."""
    ending: Ending | None = None
    """Why and how the attempt is over; the instances may still have their grace, and their outputs
    be uploaded."""
    reason: Reason | None = None
    """Why the workload was to end early."""

    def to_json(self) -> str:
        ending = self.ending and {**asdict(self.ending), "cause": self.ending.cause.name}
        reason = self.reason and self.reason.name
        return json.dumps({**asdict(self), "ending": ending, "reason": reason})

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """Raises ValueError, KeyError or TypeError for a text that is none."""
        stored = json.loads(text)
        ending, reason = stored.pop("ending"), stored.pop("reason")
        return cls(
            **stored,
            ending=read_ending(ending) if ending else None,
            reason=Reason[reason] if reason else None,
        )


def read_ending(stored: dict[str, object]) -> Ending:
    """An Ending from its members in JSON. Raises KeyError or TypeError."""
    cause, failed = str(stored.pop("cause")), stored.pop("failed")
    return Ending(
        # Earlier versions wrote WISH.
        Cause.CANCELLED if cause == "WISH" else Cause[cause],
        Exit(**failed) if failed else None,  # type: ignore[arg-type]
        **stored,  # type: ignore[arg-type]
    )
