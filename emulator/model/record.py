"""A training job as the emulator knows it now."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle


@dataclass(frozen=True)
class Job:
    """What was asked for, where it stands, and what came of it."""

    spec: JobSpec
    life: Lifecycle
    artifacts: str | None = None
    """ModelArtifacts.S3ModelArtifacts, once the job's outputs are in S3."""
