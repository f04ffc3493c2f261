"""From the instances a job asks for to the GPUs of this machine that each of them gets.

Pure. `size` says what a job's instances need here under a policy (or that they can never
have it), `place` picks the devices once that much is free.

- `scale`: the machine's GPUs are divided evenly among the job's GPU instances, none gets
  more than its type has. What else runs does not matter, so a job has the same size each time.
- `exact`: every instance gets as many as its type has, or the job fails as it would for want
  of capacity on the service.
- `shared`: the instances of a job use the same GPUs. Right results, no speed.

An instance gets whole GPUs or a single MIG slice: a CUDA process sees no second slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from emulator.model.errors import CapacityError
from emulator.placement.device import Gpu
from emulator.placement.instance_types import InstanceType

Policy = Literal["scale", "exact", "shared"]

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type."
)
"""Seen from the service as the FailureReason of a CapacityError."""


@dataclass(frozen=True)
class Demand:
    """One instance that is asked for."""

    host: str
    """algo-N"""
    type: InstanceType


@dataclass(frozen=True)
class Pool:
    """How many devices there are, whatever they are doing."""

    whole: int
    slices: int = 0
    most: int | None = None
    """How many of them may be given out at once; None for all."""

    @property
    def total(self) -> int:
        """Devices that can be given out."""
        there = self.whole + self.slices
        return there if self.most is None else min(there, self.most)


@dataclass(frozen=True)
class Want:
    """What a job's instances get here: numbers, not yet devices."""

    gpus: tuple[tuple[str, int], ...]
    """Host and number of GPUs, in the order of the hosts."""
    shared: bool = False
    """All hosts use the same GPUs."""

    @property
    def total(self) -> int:
        """Devices that the job takes."""
        counts = [count for _, count in self.gpus]
        return max(counts, default=0) if self.shared else sum(counts)

    @property
    def whole(self) -> int:
        """Those of them that must not be MIG slices."""
        counts = [count for _, count in self.gpus if count > 1]
        return max(counts, default=0) if self.shared else sum(counts)


def pool(gpus: Sequence[Gpu], most: int | None = None) -> Pool:
    """The numbers of whole GPUs and of slices."""
    slices = sum(gpu.is_slice for gpu in gpus)
    return Pool(len(gpus) - slices, slices, most)


def size(demands: Sequence[Demand], policy: Policy, machine: Pool) -> Want:
    """What the instances get on a machine with these GPUs; raises CapacityError for never.

    On a machine without any GPU `scale` and `shared` give none, and the job runs on the CPU.
    """
    if policy == "exact":
        want = _want(demands, [demand.type.gpu_count for demand in demands])
        if not _fits(want, machine):
            raise _never(demands, policy, machine)
        return want
    if policy == "shared":
        level = min(machine.total, machine.whole or 1)
        return _want(demands, [min(level, demand.type.gpu_count) for demand in demands], True)
    return _evenly(demands, machine)


def place(want: Want, free: Sequence[Gpu]) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """The UUIDs that each host gets of the free devices; None if there are too few now.

    Large GPUs go first, so that a small one for the display is used last and a job's GPUs
    are alike; slices go to instances that need one device, before a whole GPU does.
    """
    if not _fits(want, pool(free)):
        return None
    ranked = sorted(free, key=lambda gpu: (-gpu.memory_mib, gpu.index))
    whole = [gpu.uuid for gpu in ranked if not gpu.is_slice]
    slices = [gpu.uuid for gpu in ranked if gpu.is_slice]
    if want.shared:
        single = want.total == 1
        shared = (slices + whole if single else whole)[: want.total]
        return tuple((host, tuple(shared[:count])) for host, count in want.gpus)
    given: dict[str, tuple[str, ...]] = {}
    # Those that need several first: they cannot fall back to slices.
    for host, count in sorted(want.gpus, key=lambda share: -share[1]):
        source = slices if count == 1 and slices else whole
        given[host] = tuple(source[:count])
        del source[:count]
    return tuple((host, given[host]) for host, _ in want.gpus)


def explain(demands: Sequence[Demand], want: Want, policy: Policy) -> tuple[str, ...]:
    """Lines for the job's log where instances get something else than their type has."""
    by_type: dict[tuple[str, int, int], list[str]] = {}
    for demand, (host, count) in zip(demands, want.gpus, strict=True):
        if demand.type.gpu_count and (count != demand.type.gpu_count or want.shared):
            by_type.setdefault((demand.type.name, demand.type.gpu_count, count), []).append(host)
    return tuple(
        f"{name} has {_gpus(has)}; {', '.join(hosts)} {'get' if len(hosts) > 1 else 'gets'} "
        f"{_gpus(gets)} here"
        + (", the same ones" if want.shared and len(hosts) > 1 and gets else "")
        + f" (GPU policy {policy})."
        for (name, has, gets), hosts in by_type.items()
    )


def _evenly(demands: Sequence[Demand], machine: Pool) -> Want:
    most = max((demand.type.gpu_count for demand in demands), default=0)
    if most == 0 or machine.total == 0:
        return _want(demands, [0] * len(demands))
    for level in range(most, 0, -1):
        want = _want(demands, [min(level, demand.type.gpu_count) for demand in demands])
        if _fits(want, machine):
            return want
    raise _never(demands, "scale", machine)


def _want(demands: Sequence[Demand], counts: Sequence[int], shared: bool = False) -> Want:
    hosts = [demand.host for demand in demands]
    return Want(tuple(zip(hosts, counts, strict=True)), shared and any(counts))


def _fits(want: Want, available: Pool) -> bool:
    return want.whole <= available.whole and want.total <= available.total


def _never(demands: Sequence[Demand], policy: Policy, machine: Pool) -> CapacityError:
    instances = [demand for demand in demands if demand.type.gpu_count]
    asked = sum(demand.type.gpu_count for demand in instances)
    here = f"{_gpus(machine.total)}" + (" (MIG slices counted)" if machine.slices else "")
    if policy == "exact":
        reason = f"The instances asked for have {_gpus(asked)} together and this machine has {here}"
        advice = "scale divides those among the instances, shared lets several use the same"
    else:
        reason = f"{len(instances)} instances with GPUs were asked for and this machine has {here}"
        advice = "shared lets several instances use the same"
    return CapacityError(f"{NO_CAPACITY} ({reason}; GPU policy {policy}: {advice}.)")


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count or 'no'} GPUs"
