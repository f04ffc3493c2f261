"""CreateTrainingJob before anything runs, and what ListTrainingJobs leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.roles import Roles
from emulator.aws.services.training_jobs import operations
from emulator.database import Database
from emulator.model.errors import ValidationError
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.resources import KINDS
from emulator.resources.training import job_id
from emulator.settings import Settings
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SCOPE = Scope("123456789012", "us-east-1")
REQUEST: dict[str, Any] = {
    "TrainingJobName": "job",
    "AlgorithmSpecification": {"TrainingImage": "my:latest", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::123456789012:role/Trainer",
    "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}


class Desk:
    """Keeps every job and starts none."""

    def __init__(self, store: JobStore):
        self._store = store

    def submit(self, spec: WorkloadSpec) -> None:
        self._store.create(spec, 10.0)

    def stop(self, key: WorkloadId) -> None:
        raise AssertionError(f"nobody stops {key}")


def ask(store: JobStore, operation: str, roles: tuple[str, ...] = (), **params: Any) -> Any:
    known = Roles(Settings(roles=roles))
    return operations(Desk(store), store, None, known)[operation](Call(SCOPE, params))


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(Database(tmp_path / "emulator.db", MIGRATIONS), KINDS)


def test_a_role_must_exist_once_some_are_named(store: JobStore) -> None:
    with pytest.raises(ValidationError, match=r"^Could not assume role .*:role/Trainer\."):
        ask(store, "CreateTrainingJob", ("Other",), **REQUEST)
    assert store.get(job_id(SCOPE, "job")) is None
    ask(store, "CreateTrainingJob", ("Trainer",), **REQUEST)
    ask(store, "CreateTrainingJob", **{**REQUEST, "TrainingJobName": "second"})


def test_tags_that_nothing_can_have(store: JobStore) -> None:
    twice = [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]
    with pytest.raises(ValidationError, match="Duplicate tag keys found: a"):
        ask(store, "CreateTrainingJob", **REQUEST, Tags=twice)


def test_no_job_is_being_deleted(store: JobStore) -> None:
    ask(store, "CreateTrainingJob", **REQUEST)
    assert len(ask(store, "ListTrainingJobs")["TrainingJobSummaries"]) == 1
    assert ask(store, "ListTrainingJobs", StatusEquals="Deleting")["TrainingJobSummaries"] == []
    pool = ask(store, "ListTrainingJobs", WarmPoolStatusEquals="Available")
    assert pool["TrainingJobSummaries"] == []
