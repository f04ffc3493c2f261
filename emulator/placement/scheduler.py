"""Which waiting job starts next: in order of arrival, with back-fill that delays nobody.

Pure. Everything that jobs compete for is a number under a name: GPUs, cores, memory, places,
and ports that only one job at a time can listen on. A job takes all it needs at once.

The first job in line that does not fit gets a reservation: the moment at which enough will
have been given back if every running job uses its whole MaxRuntimeInSeconds. A job behind it
starts at once if it will have ended by then, or if it takes only what the first leaves over.
So small jobs fill the gaps and a big one waits no longer than if they had never come. Only a
job of higher priority may put it off: that is what a priority asks for. (The idea is EASY
back-filling: Lifka, "The ANL/IBM SP scheduling system", 1995.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

GPUS = "gpu"
WHOLE_GPUS = "gpu.whole"
"""GPUs that are not MIG slices: a part of GPUS."""
MILLICORES = "millicore"
MEMORY = "memory.mib"
PLACES = "job"

Resources = Mapping[str, int]
"""A name that is missing counts as 0."""


@dataclass(frozen=True)
class Running:
    """A job that holds something."""

    job: str
    holds: Resources
    ends_by: float
    """When it should have ended at the latest; seconds on the clock of `now`."""


@dataclass(frozen=True)
class Waiting:
    """A job that waits for everything it needs."""

    job: str
    needs: Resources
    runtime: float
    """Seconds after its start at which it should have ended at the latest."""
    arrival: int
    priority: int = 0
    """Higher goes first; among equals the one that came first."""


@dataclass(frozen=True)
class Reservation:
    """What the first job in line is kept safe for."""

    at: float
    """When it can start; infinity while the machine as it is now could never hold it."""
    spare: Resources
    """What it leaves over at that moment."""


def line(waiting: Iterable[Waiting]) -> tuple[Waiting, ...]:
    """The order in which jobs have a right to start."""
    return tuple(sorted(waiting, key=lambda job: (-job.priority, job.arrival)))


def next_start(
    capacity: Resources, running: Sequence[Running], waiting: Iterable[Waiting], now: float
) -> Waiting | None:
    """The job to start now, if any; ask again after each start.

    `capacity` is what the machine has; a resource it does not name there is none of.
    """
    free = _minus(capacity, *(job.holds for job in running))
    reservation: Reservation | None = None
    for job in line(waiting):
        fits = _within(job.needs, free)
        if reservation is None:
            if fits:
                return job
            reservation = reserve(capacity, running, job, now)
        elif fits and _harmless(job, reservation, now):
            return job
    return None


@dataclass(frozen=True)
class Held:
    """A job in line, and what keeps it there."""

    job: Waiting
    lacks: Mapping[str, tuple[int, int]]
    """By name, what it needs and how much of that is free; empty where it is only kept from
    delaying a job before it."""


def held_back(
    capacity: Resources, running: Sequence[Running], waiting: Iterable[Waiting]
) -> tuple[Held, ...]:
    """Every job in line, in its order."""
    free = _minus(capacity, *(job.holds for job in running))
    return tuple(
        Held(
            job,
            {
                name: (amount, max(0, free.get(name, 0)))
                for name, amount in job.needs.items()
                if amount > max(0, free.get(name, 0))
            },
        )
        for job in line(waiting)
    )


def reserve(
    capacity: Resources, running: Sequence[Running], job: Waiting, now: float
) -> Reservation:
    """When the first job in line can start, and what is then left for others."""
    free = _minus(capacity, *(other.holds for other in running))
    at = now
    for other in sorted(running, key=lambda other: other.ends_by):
        if _within(job.needs, free):
            break
        # One that is overdue may end any moment: nothing can be squeezed in before that.
        at = max(now, other.ends_by)
        free = _plus(free, other.holds)
    if not _within(job.needs, free):
        return Reservation(math.inf, {})
    return Reservation(at, _minus(free, job.needs))


def _harmless(job: Waiting, reservation: Reservation, now: float) -> bool:
    return now + job.runtime <= reservation.at or _within(job.needs, reservation.spare)


def _within(needs: Resources, available: Resources) -> bool:
    return all(amount <= available.get(name, 0) for name, amount in needs.items() if amount > 0)


def _minus(total: Resources, *taken: Resources) -> dict[str, int]:
    left = dict(total)
    for part in taken:
        for name, amount in part.items():
            left[name] = left.get(name, 0) - amount
    return left


def _plus(left: Resources, given: Resources) -> dict[str, int]:
    return {name: left.get(name, 0) + given.get(name, 0) for name in {*left, *given}}
