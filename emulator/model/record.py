"""A training job as the emulator knows it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle
from emulator.model.warm_pool import WarmPool

SPOT_PRICE = 0.3
"""What a second on a spot instance costs, as a share of the on-demand price: 70 % savings,
what the service's own examples show."""


@dataclass(frozen=True)
class Job:
    """What was asked for, where it stands, and what came of it."""

    spec: JobSpec
    life: Lifecycle
    artifacts: str | None = None
    """ModelArtifacts.S3ModelArtifacts, once the job's outputs are in S3."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """In the order in which the keys were added."""
    warm_pool: WarmPool | None = None
    """What becomes of the job's instances if it asked for KeepAlivePeriodInSeconds."""
    runtime: str | None = None
    """The name of the runtime that the job was accepted for; None: an earlier version took it."""
    runtime_reason: str = ""
    """Why it is that one; "" where there was nothing to choose."""

    @property
    def training_seconds(self) -> int | None:
        """TrainingTimeInSeconds: from the first byte of data to the end; None before the end."""
        start, end = self.life.training_started, self.life.training_ended
        return None if start is None or end is None else round(end - start)

    @property
    def billable_seconds(self) -> int | None:
        """BillableTimeInSeconds, None before the end.

        On demand this is the training time (seen). On spot, the time without instances after
        an interruption is free and each second costs SPOT_PRICE: the service shows the savings
        as 1 - billable / training (API reference).
        """
        if self.training_seconds is None or not self.spec.spot:
            return self.training_seconds
        return min(self.training_seconds, round(self.life.held_seconds * SPOT_PRICE))
