"""How long a job may be Pending."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.database import Database
from emulator.model.lifecycle import Phase
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.placement.leases import Lease
from emulator.resources import KINDS
from emulator.resources.training import training_job
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.capacity_wait import wait_for_capacity
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SPEC = training_job(
    {
        "TrainingJobName": "one",
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {
            "InstanceType": "ml.g5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxPendingTimeInSeconds": 7200},
    },
    Scope("123456789012", "us-east-1"),
)


class Timers:
    """Remembers what was set."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def after(self, seconds: float, _: Any) -> Any:
        self.seconds.append(seconds)
        return SimpleNamespace(cancel=lambda: None)


class Capacity:
    def acquire(self, spec: WorkloadSpec, _: Event, waiting: Any) -> Lease:
        waiting()
        return Lease(spec.arn, spec.name)


@pytest.mark.parametrize(("pending_since", "left"), [(1000.0, 7200), (900.0, 7100), (-9000.0, 0)])
def test_the_time_counts_on_under_the_next_emulator(
    tmp_path: Path, pending_since: float, left: float
) -> None:
    store = JobStore(Database(tmp_path / "emulator.db", MIGRATIONS), KINDS)
    store.create(SPEC, -10_000.0)

    def enter(life: Any) -> Any:
        return life.enter(Phase.PENDING, SPEC.words.pending, pending_since)

    store.update(SPEC.id, lambda job: replace(job, life=enter(job.life)))
    clock = SimpleNamespace(now=lambda: 1000.0)
    context: Any = SimpleNamespace(store=store, clock=clock, capacity=Capacity())
    timers: Any = Timers()
    wait_for_capacity(context, SPEC, CancelToken(), timers, lambda: None)
    assert timers.seconds == [left]
