"""What placement needs to know of whatever runs here, whichever life cycle it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from emulator.model.workload import Host


class Claim(Protocol):
    """Something that waits for a place on this machine, or holds one; WorkloadSpec is one."""

    @property
    def arn(self) -> str:
        """Names it; unique."""
        ...

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def label(self) -> str:
        """What log lines call it."""
        ...

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Its instances."""
        ...

    @property
    def tags(self) -> Mapping[str, str]: ...

    @property
    def max_runtime(self) -> float:
        """Seconds that its instances may run."""
        ...

    @property
    def ports(self) -> tuple[str, ...]:
        """Of its launcher; see RuntimeTraits.shares_ports."""
        ...

    @property
    def lasting(self) -> bool:
        """It has no end of its own, as the instance of an endpoint.

        It holds GPUs alone: for cores, memory or a place among the jobs that run, others would
        wait without end.
        """
        ...
