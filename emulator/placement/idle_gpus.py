"""Jobs that hold GPUs and do not use them: pure, from looks at the GPUs and the clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from emulator.placement.device import GpuLoad
from emulator.placement.leases import Lease

USED_PERCENT = 1.0
"""A GPU on which less than this ran in the driver's last sampling period is not used."""


class IdleGpus:
    """Remembers since when all GPUs of each job have been unused. Not safe for threads."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, leases: Iterable[Lease], loads: Mapping[str, GpuLoad], now: float) -> None:
        """Take in how the GPUs are used at `now`, in epoch seconds.

        A job with a GPU of which the driver tells no utilization counts as busy.
        """
        idle = {lease.job for lease in leases if _is_idle(lease, loads)}
        self._since = {job: self._since.get(job, now) for job in idle}

    @property
    def since(self) -> Mapping[str, float]:
        """By the ARN of the job, when its GPUs were first seen unused; busy jobs are left out."""
        return dict(self._since)


def _is_idle(lease: Lease, loads: Mapping[str, GpuLoad]) -> bool:
    seen = [loads.get(gpu) for gpu in lease.holders]
    return bool(seen) and all(
        load is not None and load.busy is not None and load.busy < USED_PERCENT for load in seen
    )
