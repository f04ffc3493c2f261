"""Tags of training jobs, by their ARNs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services.tags import operations
from emulator.database import Database
from emulator.model.errors import ApiError
from emulator.model.lifecycle import Phase
from emulator.model.scope import Scope
from emulator.resources import KINDS
from emulator.resources.training import job_id, training_job
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SCOPE = Scope("123456789012", "us-west-2")
ARN = "arn:aws:sagemaker:us-west-2:123456789012:training-job/"
Ask = Callable[..., Any]


def tags(**values: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    database = Database(tmp_path / "emulator.db", MIGRATIONS)
    store = JobStore(database, KINDS)
    for name, more in (("My-Job", {"Tags": tags(a="1")}), ("plain", {})):
        request = {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
            **more,
        }
        store.create(training_job(request, SCOPE), 10.0)
    yield store
    database.close()


@pytest.fixture
def ask(store: JobStore) -> Ask:
    handlers = operations(store)

    def send(operation: str, job: str = "my-job", scope: Scope = SCOPE, **more: Any) -> Any:
        return handlers[operation](Call(scope, {"ResourceArn": ARN + job, **more}))

    return send


def refused(ask: Ask, *args: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ApiError) as refusal:
        ask(*args, **params)
    return refusal.value.code, refusal.value.message


def listed(ask: Ask, job: str = "my-job") -> Mapping[str, str]:
    return {tag["Key"]: tag["Value"] for tag in ask("ListTags", job)["Tags"]}


def test_a_job_starts_with_the_tags_of_its_request(ask: Ask) -> None:
    assert ask("ListTags") == {"Tags": tags(a="1")}
    assert ask("ListTags", "plain", MaxResults=50) == {"Tags": []}


def test_tags_are_added_replaced_and_removed(ask: Ask) -> None:
    assert ask("AddTags", Tags=tags(b="2", a="3")) == {"Tags": tags(b="2", a="3")}
    assert listed(ask) == {"a": "3", "b": "2"}
    assert ask("DeleteTags", TagKeys=["a", "nothing"]) == {}
    assert listed(ask) == {"b": "2"}


def test_a_job_that_has_ended_can_be_tagged(ask: Ask, store: JobStore) -> None:
    store.change(
        job_id(SCOPE, "plain"),
        lambda life: life.finish(Phase.FAILED, "Training job failed", 50.0, "x"),
    )
    ask("AddTags", "plain", Tags=tags(late="yes"))
    assert listed(ask, "plain") == {"late": "yes"}


def test_more_tags_than_a_job_may_have_change_nothing(ask: Ask) -> None:
    ask("AddTags", Tags=tags(**{f"k{number}": "" for number in range(49)}))
    code, _ = refused(ask, "AddTags", Tags=tags(a="new", more=""))
    assert code == "ResourceLimitExceeded"
    assert listed(ask)["a"] == "1"
    ask("AddTags", Tags=tags(a="new"))
    assert listed(ask)["a"] == "new"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (tags(a="1") * 2, "Duplicate tag keys found: a. Keys must be unique."),
        (
            [{"Key": "AWS:mine", "Value": ""}],
            "The tag key AWS:mine is not allowed: aws: prefixed tag keys are reserved for AWS.",
        ),
    ],
)
def test_tags_that_nothing_can_have(ask: Ask, wrong: Any, words: str) -> None:
    assert refused(ask, "AddTags", Tags=wrong) == ("ValidationException", words)


@pytest.mark.parametrize("job", ["nobody", "nobody/else"])
def test_an_unknown_job(ask: Ask, job: str) -> None:
    wanted = ("ValidationException", "Requested resource not found.")
    assert refused(ask, "ListTags", job) == wanted
    assert refused(ask, "AddTags", job, Tags=tags(a="b")) == wanted
    assert refused(ask, "DeleteTags", job, TagKeys=["a"]) == wanted


def test_an_arn_of_somewhere_else(ask: Ask) -> None:
    assert refused(ask, "ListTags", scope=Scope("123456789012", "eu-west-1")) == (
        "ValidationException",
        "ARN should be scoped to correct region: eu-west-1",
    )
    code, _ = refused(ask, "ListTags", scope=Scope("210987654321", "us-west-2"))
    assert code == "AccessDeniedException"
    other = "arn:aws:sagemaker:us-west-2:123456789012:model/my-job"
    assert refused(ask, "ListTags", ResourceArn=other) == (
        "ValidationException",
        "Requested resource not found.",
    )


def test_a_made_up_token(ask: Ask) -> None:
    assert refused(ask, "ListTags", NextToken="x") == ("ValidationException", "Invalid NextToken")
