"""UpdateTrainingJob and DeleteTrainingJob."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services.job_updates import operations
from emulator.database import Database
from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Phase
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId
from emulator.resources import KINDS
from emulator.resources.training import job_id, training_job
from emulator.workloads.store.runs import MIGRATIONS, JobStore
from emulator.workloads.warm_pools import WithPeriod

SCOPE = Scope("123456789012", "us-west-2")
RULE = {"RuleConfigurationName": "Report", "RuleEvaluatorImage": "image"}


class Desk:
    """Writes down what is asked of the one who runs the jobs."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def delete(self, key: WorkloadId) -> None:
        self.asked.append(("delete", key))

    def update_keep_alive(self, key: WorkloadId, keep_alive: int, _: WithPeriod) -> None:
        self.asked.append(("keep", key, keep_alive))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    database = Database(tmp_path / "emulator.db", MIGRATIONS)
    store = JobStore(database, KINDS)
    request = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
        "ProfilerConfig": {"S3OutputPath": "s3://bucket/p", "DisableProfiler": False},
        "ProfilerRuleConfigurations": [RULE],
    }
    store.create(training_job(request, SCOPE), 10.0)
    yield store
    database.close()


def update(desk: Desk, store: JobStore, **changes: Any) -> Any:
    handler = operations(desk, store, clock=lambda: 20.0)["UpdateTrainingJob"]
    return handler(Call(SCOPE, {"TrainingJobName": "job", **changes}))


def request_of(store: JobStore) -> Any:
    job = store.get(job_id(SCOPE, "job"))
    assert job is not None
    return job.spec.request


@pytest.mark.parametrize("changes", [{}, {"ProfilerConfig": {}}, {"RemoteDebugConfig": {}}])
def test_an_empty_update(desk: Desk, store: JobStore, changes: Any) -> None:
    with pytest.raises(ValidationError) as error:
        update(desk, store, **changes)
    assert error.value.message == "Invalid UpdateTrainingJobRequest, the request cannot be empty"


def test_profiling_is_changed_member_by_member(desk: Desk, store: JobStore) -> None:
    new = {"RuleConfigurationName": "New", "RuleEvaluatorImage": "image"}
    changed = {**RULE, "VolumeSizeInGB": 5}
    answer = update(
        desk,
        store,
        ProfilerConfig={"ProfilingIntervalInMilliseconds": 1000},
        ProfilerRuleConfigurations=[new, changed],
    )
    assert answer == {"TrainingJobArn": job_id(SCOPE, "job").arn}
    assert request_of(store)["ProfilerConfig"] == {
        "S3OutputPath": "s3://bucket/p",
        "DisableProfiler": False,
        "ProfilingIntervalInMilliseconds": 1000,
    }
    assert request_of(store)["ProfilerRuleConfigurations"] == [changed, new]
    job = store.get(job_id(SCOPE, "job"))
    assert job is not None
    assert job.life.modified == 20.0
    assert desk.asked == []


def test_a_keep_alive_period_goes_to_who_keeps_the_instances(desk: Desk, store: JobStore) -> None:
    update(desk, store, ResourceConfig={"KeepAlivePeriodInSeconds": 0})
    assert desk.asked == [("keep", job_id(SCOPE, "job"), 0)]


class Refusal(Desk):
    def update_keep_alive(self, *asked: object) -> None:
        raise ValidationError(f"no warm pool: {asked}")


def test_an_update_is_done_as_a_whole_or_not_at_all(desk: Desk, store: JobStore) -> None:
    keep = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
    before = request_of(store)
    with pytest.raises(ValidationError, match="no warm pool"):
        update(Refusal(), store, ProfilerConfig={"DisableProfiler": True}, **keep)
    assert request_of(store) == before
    with pytest.raises(ValidationError, match="RemoteDebugConfig"):
        update(desk, store, RemoteDebugConfig={"EnableRemoteDebug": True}, **keep)
    assert desk.asked == []
    update(desk, store, ProfilerConfig={"DisableProfiler": True}, **keep)
    assert desk.asked == [("keep", job_id(SCOPE, "job"), 0)]
    assert request_of(store)["ProfilerConfig"]["DisableProfiler"] is True


def test_remote_debugging_is_switched_while_instances_are_there(
    desk: Desk, store: JobStore
) -> None:
    with pytest.raises(ValidationError, match="it is Starting"):
        update(desk, store, RemoteDebugConfig={"EnableRemoteDebug": True})
    store.change(job_id(SCOPE, "job"), lambda life: life.enter(Phase.DOWNLOADING, "data", 11.0))
    update(desk, store, RemoteDebugConfig={"EnableRemoteDebug": True})
    assert request_of(store)["RemoteDebugConfig"] == {"EnableRemoteDebug": True}


def test_a_job_that_has_ended(desk: Desk, store: JobStore) -> None:
    store.change(job_id(SCOPE, "job"), lambda life: life.finish(Phase.FAILED, "failed", 50.0, "x"))
    with pytest.raises(ValidationError, match=r"training job is in status Failed\.$"):
        update(desk, store, ProfilerConfig={"DisableProfiler": True})


def test_an_unknown_job(desk: Desk, store: JobStore) -> None:
    with pytest.raises(ValidationError, match=r"^Requested resource not found\.$"):
        update(desk, store, TrainingJobName="no", ProfilerConfig={"DisableProfiler": True})


def test_deletion_is_left_to_who_runs_the_jobs(desk: Desk, store: JobStore) -> None:
    handler = operations(desk, store)["DeleteTrainingJob"]
    assert handler(Call(SCOPE, {"TrainingJobName": "job"})) is None
    assert desk.asked == [("delete", job_id(SCOPE, "job"))]
