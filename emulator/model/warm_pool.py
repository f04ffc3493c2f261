"""A warm pool as a value: the instances of a job, kept for a while for the next one that fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class PoolStatus(str, Enum):
    """WarmPoolStatus.Status."""

    IN_USE = "InUse"
    """The job that asked for the pool still runs."""
    AVAILABLE = "Available"
    REUSED = "Reused"
    TERMINATED = "Terminated"


@dataclass(frozen=True)
class WarmPool:
    """The pool that a job with KeepAlivePeriodInSeconds leaves; times in epoch seconds."""

    keep_alive: int
    """KeepAlivePeriodInSeconds, as last updated."""
    status: PoolStatus = PoolStatus.IN_USE
    since: float | None = None
    """When it became available."""
    until: float | None = None
    """When it was taken over or ended."""
    reused_by: str | None = None
    """The name of the job that took it over."""

    @property
    def over(self) -> bool:
        return self.status in (PoolStatus.REUSED, PoolStatus.TERMINATED)

    @property
    def expires(self) -> float | None:
        """When it ends by itself; None while the job runs."""
        return None if self.since is None else self.since + self.keep_alive

    @property
    def retained_seconds(self) -> int | None:
        """ResourceRetainedBillableTimeInSeconds: how long it stood by, once that is over."""
        if self.since is None or self.until is None:
            return None
        return round(self.until - self.since)

    def keep(self, now: float) -> WarmPool:
        """The job is over, its instances stay."""
        return replace(self, status=PoolStatus.AVAILABLE, since=now)

    def reuse(self, job: str, now: float) -> WarmPool:
        """Another job takes the instances over."""
        return replace(self, status=PoolStatus.REUSED, until=now, reused_by=job)

    def end(self, now: float) -> WarmPool:
        """Nobody will use it (again); one that is over stays as it is."""
        return self if self.over else replace(self, status=PoolStatus.TERMINATED, until=now)
