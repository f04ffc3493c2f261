"""A warm pool as a value: the instances of a job, kept for a while for the next one that fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from emulator.model.job import JobSpec


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


PoolKey = tuple[tuple[str, Any], ...]
"""What two jobs must have in common to use the same pool; hashable."""

_RESOURCES = ("InstanceType", "VolumeSizeInGB", "VolumeKmsKeyId")
_SWITCHES = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")


def keep_alive_of(spec: JobSpec) -> int:
    """KeepAlivePeriodInSeconds of the request; 0 keeps nothing.

    Managed spot training and heterogeneous clusters have no warm pools (developer guide).
    """
    resources = spec.request["ResourceConfig"]
    if spec.spot or resources.get("InstanceGroups"):
        return 0
    return int(resources.get("KeepAlivePeriodInSeconds", 0))


def pool_key(spec: JobSpec) -> PoolKey | None:
    """What a job and a pool must share (developer guide); None where no pool can fit."""
    resources = spec.request["ResourceConfig"]
    if spec.spot or resources.get("InstanceGroups"):
        return None
    vpc = spec.request.get("VpcConfig", {})
    tags = spec.request.get("SessionChainingConfig", {}).get("EnableSessionTagChaining", False)
    return (
        ("account", spec.scope.account),
        ("region", spec.scope.region),
        ("role", spec.role_arn),
        ("InstanceCount", resources.get("InstanceCount", 1)),
        *((name, resources.get(name)) for name in _RESOURCES),
        ("subnets", tuple(sorted(vpc.get("Subnets", ())))),
        ("security groups", tuple(sorted(vpc.get("SecurityGroupIds", ())))),
        *((name, bool(spec.request.get(name, False))) for name in _SWITCHES),
        ("session tags", bool(tags)),
    )
