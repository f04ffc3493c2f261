"""Faults that a user seeds on purpose: what each one is, whom it meets and how often. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, get_type_hints

from emulator.model.checked import checked


class Kind(str, Enum):
    """What goes wrong, named as the service names it where it has a name."""

    SPOT_INTERRUPTION = "SpotInterruption"
    """The instances of a spot job are taken away."""
    INSTANCE_FAILURE = "InstanceFailure"
    """One instance dies; the job fails with InternalServerError."""
    CAPACITY_ERROR = "CapacityError"
    INTERNAL_SERVER_ERROR = "InternalServerError"
    SLOW_IMAGE_PULL = "SlowImagePull"
    THROTTLING = "ThrottlingException"
    INTERNAL_FAILURE = "InternalFailure"
    """HTTP 500 of an API operation."""
    SLOW_DOWN = "SlowDown"
    """HTTP 503 of S3."""
    SLOW_S3 = "SlowS3"

    @property
    def of_jobs(self) -> bool:
        return self in _OF_JOBS


_OF_JOBS = (
    Kind.SPOT_INTERRUPTION,
    Kind.INSTANCE_FAILURE,
    Kind.CAPACITY_ERROR,
    Kind.INTERNAL_SERVER_ERROR,
    Kind.SLOW_IMAGE_PULL,
)


class Stage(str, Enum):
    """Where an InternalServerError meets its job."""

    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    UPLOADING = "Uploading"


@dataclass(frozen=True)
class Fault:
    """One seeded fault; patterns are those of a shell (`*`, `?`, `[a-z]`), case counts."""

    kind: Kind
    id: str = ""
    """Given when it is added, unless the user chose one."""
    job: str = "*"
    """Jobs it meets, by name."""
    operation: str = "*"
    """API operations it meets, such as `Describe*`."""
    bucket: str = "*"
    """Buckets it meets."""
    host: str = "algo-1"
    """The instance that fails."""
    stage: Stage = Stage.TRAINING
    after_seconds: float = 0
    """Seconds of training in this attempt before it happens."""
    seconds: float = 0
    """How long it lasts: a delay, or the time without spot capacity."""
    rate: float = 1
    """The share of the chances that it takes, from 0 to 1."""
    times: int | None = None
    """How often at most: for each job (by default once), or in all (by default no limit)."""
    seed: int = 0
    """The same seed takes the same chances."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError("rate must be from 0 to 1")
        if self.times is not None and self.times < 0:
            raise ValueError("times must not be negative")
        for name in ("after_seconds", "seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number of seconds, not negative")

    @property
    def limit(self) -> float:
        """How often it may happen (to one job, if it is a fault of jobs)."""
        if self.times is not None:
            return self.times
        return 1 if self.kind.of_jobs else float("inf")


def read_fault(document: Mapping[str, Any]) -> Fault:
    """A fault from JSON or TOML; raises ValueError that says what is wrong with it."""
    if "kind" not in document:
        raise ValueError("kind: it is missing")
    hints = get_type_hints(Fault)
    values = {}
    for name, value in document.items():
        if name not in hints:
            raise ValueError(f"{name}: a fault has no such member")
        try:
            values[name] = checked(value, hints[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return Fault(**values)


@dataclass(frozen=True)
class Chance:
    """A moment at which a fault of one kind could happen."""

    kind: Kind
    job: str = ""
    hosts: tuple[str, ...] | None = None
    """The instances that may be met, where that matters."""
    operation: str = ""
    bucket: str = ""
    stage: Stage | None = None
    trained: float = 0
    """Seconds of training in this attempt so far."""


@dataclass(frozen=True)
class Tally:
    """How often a fault had its chance, and how often it took it."""

    chances: int = 0
    taken: int = 0


def meets(fault: Fault, chance: Chance) -> bool:
    """Is it this fault's chance at all?"""
    if fault.kind is not chance.kind:
        return False
    if not fault.kind.of_jobs:
        return fnmatchcase(chance.operation, fault.operation) and fnmatchcase(
            chance.bucket, fault.bucket
        )
    return (
        fnmatchcase(chance.job, fault.job)
        and (fault.kind is not Kind.INSTANCE_FAILURE or fault.host in (chance.hosts or ()))
        and chance.stage in (None, fault.stage)
        and (fault.after_seconds <= chance.trained or fault.stage is not Stage.TRAINING)
    )


def take(fault: Fault, tally: Tally, whom: str = "") -> tuple[bool, Tally]:
    """Does it happen this time? `whom` tells the jobs' draws apart."""
    if tally.taken >= fault.limit:
        return False, tally
    happens = _draw(fault.seed, whom, tally.chances) < fault.rate
    return happens, Tally(tally.chances + 1, tally.taken + happens)


def _draw(seed: int, whom: str, number: int) -> float:
    """The n-th of an even sequence in [0, 1): the same in every process."""
    digest = hashlib.sha256(f"{seed}:{whom}:{number}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
