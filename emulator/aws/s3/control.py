"""What the S3 port asks of the emulator: seeded faults, and why the store is away.

The port may run in a process of its own, where the answers come from another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

UNREACHABLE = "The object store behind sagemaker-emulator is unreachable."


@dataclass(frozen=True)
class Disturbance:
    """What seeded faults do to one request."""

    seconds: float = 0
    """A seeded SlowS3 keeps it waiting so long."""
    slow_down: bool = False
    """A seeded SlowDown is its answer."""


class Control(Protocol):
    """Asked from the event loop of the S3 port."""

    @property
    def seeded(self) -> bool:
        """Are any faults seeded? Cheap, for it is asked with every request."""

    async def disturbance(self, bucket: str, /) -> Disturbance:
        """What faults do to a request for this bucket; each call uses a chance up."""

    async def store_problem(self) -> str:
        """Why the store gave no answer ("" if that is not known); it is noted, too."""


class Undisturbed:
    """No faults, and nothing known of the store."""

    seeded = False

    async def disturbance(self, _bucket: str) -> Disturbance:
        return Disturbance()

    async def store_problem(self) -> str:
        return ""
