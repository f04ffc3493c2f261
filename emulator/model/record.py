"""A workload that runs to its end, as the emulator knows it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.model.lifecycle import Lifecycle
from emulator.model.run_record import RunRecord
from emulator.model.warm_pool import WarmPool
from emulator.model.workload import WorkloadSpec


@dataclass(frozen=True)
class Job:
    """What was asked for, where it stands, and what came of it."""

    spec: WorkloadSpec
    life: Lifecycle
    artifacts: str | None = None
    """WorkloadSpec.artifacts, once the outputs are in S3."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """In the order in which the keys were added."""
    warm_pool: WarmPool | None = None
    """What becomes of the job's instances if it asked for KeepAlivePeriodInSeconds."""
    runtime: str | None = None
    """The name of the runtime that the job was accepted for; None: an earlier version took it."""
    runtime_reason: str = ""
    """Why it is that one; "" where there was nothing to choose."""
    run: RunRecord | None = None
    """The attempt whose instances were started last; None: none was since the data came."""
