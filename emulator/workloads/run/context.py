"""All that a job's run is done with, from the floors below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from emulator.data.objectstore.availability import Availability
from emulator.drivers.choice import Runtimes
from emulator.model.claim import Claim
from emulator.model.errors import JobError
from emulator.model.plan import Exit, Mount, RuntimeTraits
from emulator.model.workload import WorkloadSpec
from emulator.placement.leases import Lease
from emulator.placement.ledger import Queued
from emulator.placement.nccl import Preset
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MetricStore
from emulator.workloads.fault_book import FaultBook
from emulator.workloads.plan.job_plan import Credentials
from emulator.workloads.plan.layout import InstanceDirs
from emulator.workloads.run.clock import Clock
from emulator.workloads.store.runs import JobStore

Instances = Mapping[str, InstanceDirs]
"""The directories of a job's instances, by host name and in the order of their numbers."""


class CapacityPool(Protocol):
    """Decides when a job may run, and on which GPUs."""

    def enqueue(self, spec: Claim) -> None:
        """Take a job's place in line for the `acquire` that follows in another thread."""
        ...

    def withdraw(self, spec: Claim) -> None:
        """Give up that place, and what has been granted to it, if no `acquire` has followed."""
        ...

    def acquire(self, spec: Claim, cancelled: Event, waiting: Callable[[], None]) -> Lease | None:
        """A lease; None if `cancelled` was set while the job waited.

        `waiting` is called once if the job cannot start at once; `cancelled` is looked at
        again after each `wake()`. Raises CapacityError when the job can never run here.
        """
        ...

    def queued(self, job: str) -> Queued | None:
        """The place in line of what has that ARN; None if it does not wait."""
        ...

    def release(self, lease: Lease) -> None: ...

    def pass_on(self, lease: Lease, spec: Claim) -> Lease:
        """What the job before held, held by this one. Raises InternalServerError."""
        ...

    def recover(
        self, running: Iterable[Claim], waiting: Iterable[Claim] = ()
    ) -> Mapping[str, Lease]:
        """Once, at start: the leases of jobs that still run, by ARN; all others are closed.

        `waiting` are those that will come again, in the order in which they came first.
        """
        ...

    def wake(self) -> None: ...

    def move_first(self, job: str) -> bool:
        """Put a job before all others that wait; False if it does not wait."""
        ...


def nothing() -> None:
    """There is nothing to end."""


def _no_trouble() -> JobError | None:
    return None


@dataclass(frozen=True)
class StagedInputs:
    """The channels of a job, ready for its instances."""

    mounts: Mapping[str, tuple[Mount, ...]] = field(default_factory=dict)
    """What each host sees in the place of channels' directories."""
    close: Callable[[], None] = nothing
    """End what serves the channels; called once, when no instance runs any more."""
    release: Callable[[], None] = nothing
    """Let what was downloaded go as soon as its place is needed; called last, and it may be
    called again."""
    trouble: Callable[[], JobError | None] = _no_trouble
    """Why what the instances read is not all that was asked for, if so."""


class Inputs(Protocol):
    """Brings the data of the channels to the instances."""

    def check(self, spec: WorkloadSpec) -> None:
        """Raise ApiError if CreateTrainingJob must be refused for its data."""
        ...

    def stage(
        self,
        spec: WorkloadSpec,
        instances: Instances,
        traits: RuntimeTraits,
        say: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> StagedInputs:
        """Fill the channels of every instance.

        `say` gets now and then how far a long download is. Raises JobError, and Cancelled
        soon after `cancelled()` turned true.
        """
        ...


class Outputs(Protocol):
    """Takes what a job leaves behind to S3."""

    def check(self, spec: WorkloadSpec) -> None:
        """Raise ApiError if CreateTrainingJob must be refused for where its outputs go."""
        ...

    def upload(self, spec: WorkloadSpec, instances: Instances) -> None:
        """Upload models and outputs of all instances. Raises JobError."""
        ...

    def keep(self, spec: WorkloadSpec, instances: Instances) -> None:
        """Move models and outputs, if there are any, to where they outlive a job that is lost.

        The job's log says where. Raises OSError.
        """
        ...


@dataclass(frozen=True)
class Ends:
    """How the instances of a job ended."""

    exits: Mapping[str, Exit] = field(default_factory=dict)
    """By host; an instance whose end was not seen has none."""
    asked: frozenset[str] = frozenset()
    """Those that ran when the emulator asked the instances to end."""


class RunningSync(Protocol):
    """What is being copied to S3 while the instances run."""

    def finish(self, ends: Ends) -> None:
        """Copy what is left, then end; called once, when no instance writes any more.

        Raises JobError. It may take its time: the job's status waits for it.
        """
        ...

    def leave(self) -> None:
        """End without a last copy: the instances write on, and `resume` follows."""
        ...


class Syncs(Protocol):
    """Keeps checkpoints and TensorBoard data of running instances in S3."""

    def start(
        self, spec: WorkloadSpec, instances: Instances, cancelled: Callable[[], bool]
    ) -> RunningSync:
        """Bring back what S3 holds, then keep copying; called before the instances start.

        A spot job that was interrupted, or a retry, comes here again with empty directories.
        Raises JobError, and Cancelled soon after `cancelled()` turned true.
        """
        ...

    def resume(self, spec: WorkloadSpec, instances: Instances) -> RunningSync:
        """Go on copying what instances write that outlived an emulator."""
        ...

    def rescue(self, spec: WorkloadSpec, instances: Instances) -> None:
        """Save what an emulator that was killed left behind, before it is removed.

        What the store does not take is kept elsewhere; raises JobError then. Raises OSError.
        """
        ...


class NoSyncs:
    """Syncs of an emulator that keeps nothing while a job runs."""

    def start(
        self,
        spec: WorkloadSpec,  # noqa: ARG002
        instances: Instances,  # noqa: ARG002
        cancelled: Callable[[], bool],  # noqa: ARG002
    ) -> RunningSync:
        return self

    def finish(self, ends: Ends) -> None:
        pass

    def leave(self) -> None:
        pass

    def resume(self, spec: WorkloadSpec, instances: Instances) -> RunningSync:  # noqa: ARG002
        return self

    def rescue(self, spec: WorkloadSpec, instances: Instances) -> None:
        pass


@dataclass(frozen=True)
class RunContext:
    """The parts a run works with; `app.py` puts it together."""

    store: JobStore
    logs: LogStore
    runtimes: Runtimes
    capacity: CapacityPool
    inputs: Inputs
    outputs: Outputs
    credentials: Credentials
    directory: Path
    """Every running job has a directory of its own below it."""
    syncs: Syncs = field(default_factory=NoSyncs)
    faults: FaultBook = field(default_factory=FaultBook)
    availability: Availability = field(default_factory=Availability)
    """Whether the object store answers the instances."""
    stop_grace: float = 120
    """Seconds between SIGTERM and SIGKILL when a job is stopped."""
    failure_grace: float = 3
    """The same for the other instances of a job that has failed, or at a shutdown."""
    metrics: MetricStore | None = None
    """Where measured values go; without one nothing is measured."""
    system_metrics_seconds: float = 60
    """The time between two looks at what the instances use."""
    spot_notice: float = 120
    """Seconds between SIGTERM and SIGKILL when spot instances are taken away."""
    nccl_preset: Preset = "network"
    """How NCCL talks between instances where a job does not say."""
    idle_seconds: float = 0
    """A job of several instances that all wait for so long has hung; 0: it may."""
    leaves_instances: bool = True
    """At a shutdown, instances that can go on without the emulator do."""
    keep_directories: bool = False
    """Leave the directories of ended jobs where they are."""
    clock: Clock = field(default_factory=Clock)

    def job_directory(self, spec: WorkloadSpec) -> Path:
        name = f"{spec.kind.directory_prefix}{spec.name}"
        return self.directory / spec.scope.account / spec.scope.region / name

    @property
    def pool_directory(self) -> Path:
        """What warm pools keep lies below it."""
        return self.directory.with_name("warm-pools")
