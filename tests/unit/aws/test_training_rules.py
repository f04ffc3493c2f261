"""Members of CreateTrainingJob that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.aws.services.training_rules import check
from emulator.model.errors import ApiError, NotBuilt, ValidationError

GROUP = {"InstanceGroupName": "g", "InstanceType": "ml.m5.large", "InstanceCount": 1}
REQUEST: dict[str, Any] = {
    "AlgorithmSpecification": {"TrainingImage": "my:latest", "TrainingInputMode": "File"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}


def refusal(**changes: Any) -> str:
    request = {name: v for name, v in {**REQUEST, **changes}.items() if v is not None}
    with pytest.raises(ValidationError) as error:
        check(request)
    return error.value.message


def channels(*modes: str | None) -> list[dict[str, Any]]:
    return [
        {"ChannelName": f"c{number}", "DataSource": {}, **({"InputMode": mode} if mode else {})}
        for number, mode in enumerate(modes)
    ]


def test_a_plain_request_is_fine() -> None:
    check(REQUEST)
    check({**REQUEST, "InputDataConfig": channels(None, "Pipe", "File")})
    check({**REQUEST, "ResourceConfig": {"InstanceGroups": [GROUP]}})


def test_pipe_and_fast_file() -> None:
    words = "Cannot use both 'Pipe' and 'FastFile' TrainingInputMode on the same Training Job."
    assert refusal(InputDataConfig=channels("Pipe", "FastFile")) == words
    algorithm = {"TrainingImage": "my:latest", "TrainingInputMode": "Pipe"}
    mixed = channels(None, "FastFile")
    assert refusal(AlgorithmSpecification=algorithm, InputDataConfig=mixed) == words


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"AlgorithmSpecification": None}, "algorithmSpecification"),
        ({"ResourceConfig": None}, "resourceConfig"),
        ({"ResourceConfig": {"InstanceCount": 1}}, "resourceConfig.instanceType"),
        ({"ResourceConfig": {"InstanceGroups": []}}, "resourceConfig.instanceType"),
    ],
)
def test_what_only_serverless_jobs_leave_out(changes: dict[str, Any], path: str) -> None:
    assert refusal(**changes) == (
        f"1 validation error detected: Value null at '{path}' failed to satisfy constraint: "
        "Member must not be null"
    )


def test_one_algorithm() -> None:
    both = {"TrainingImage": "a", "AlgorithmName": "b", "TrainingInputMode": "File"}
    for algorithm in (both, {"TrainingInputMode": "File"}):
        assert "AlgorithmName" in refusal(AlgorithmSpecification=algorithm)


def test_instances() -> None:
    mixed = {"InstanceGroups": [GROUP], "InstanceType": "ml.m5.large"}
    assert "InstanceGroups" in refusal(ResourceConfig=mixed)
    assert "name g is" in refusal(ResourceConfig={"InstanceGroups": [GROUP, GROUP]})
    nothing = {"InstanceType": "ml.m5.large", "InstanceCount": 0}
    assert "at least one instance" in refusal(ResourceConfig=nothing)


@pytest.mark.parametrize("count", [101, 10**30])
def test_more_instances_than_a_machine_can_bear(count: int) -> None:
    half = {**GROUP, "InstanceCount": count - 1}
    for resources in (
        {"InstanceType": "ml.m5.large", "InstanceCount": count},
        {"InstanceGroups": [half, {**GROUP, "InstanceGroupName": "h"}]},
    ):
        with pytest.raises(ApiError) as error:
            check({**REQUEST, "ResourceConfig": resources})
        assert error.value.code == "ResourceLimitExceeded"
        assert error.value.message.startswith(
            "The account-level service limit 'ml.m5.large for training job usage' is 100 "
            f"Instances, with current utilization of 0 Instances and a request delta of {count} "
        )


def test_a_channel_name_used_twice() -> None:
    assert "channel name c0" in refusal(InputDataConfig=channels("File") * 2)


def test_only_spot_has_a_wait_time() -> None:
    limits = {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 200}
    words = (
        "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set "
        "to true"
    )
    assert refusal(StoppingCondition=limits) == words
    assert refusal(StoppingCondition=limits, EnableManagedSpotTraining=False) == words


def test_spot_needs_a_wait_time() -> None:
    words = (
        "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
        "MaxRuntimeInSeconds"
    )
    short = {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 99}
    assert refusal(EnableManagedSpotTraining=True) == words
    assert refusal(EnableManagedSpotTraining=True, StoppingCondition=short) == words
    enough = {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 100}
    check({**REQUEST, "EnableManagedSpotTraining": True, "StoppingCondition": enough})


def test_what_is_not_built_is_named() -> None:
    with pytest.raises(NotBuilt, match="ServerlessJobConfig"):
        check({"ServerlessJobConfig": {}})
    with pytest.raises(NotBuilt, match="InstancePreferences"):
        check({**REQUEST, "ResourceConfig": {"InstancePreferences": {}}})


@pytest.mark.parametrize("name", [".", ".."])
def test_a_channel_whose_directory_would_be_another_one(name: str) -> None:
    channel = {"ChannelName": name, "DataSource": {}}
    assert refusal(InputDataConfig=[channel]) == f"The channel name {name} cannot be used."


def test_a_channel_for_a_group_that_the_job_does_not_have() -> None:
    def channel(group: str) -> dict[str, Any]:
        source = {"S3DataSource": {"S3Uri": "s3://b/k", "InstanceGroupNames": [group]}}
        return {"ChannelName": "c", "DataSource": source}

    groups = {"InstanceGroups": [GROUP]}
    check({**REQUEST, "ResourceConfig": groups, "InputDataConfig": [channel("g")]})
    words = "channel c is for the instance group h"
    assert words in refusal(ResourceConfig=groups, InputDataConfig=[channel("h")])
    assert "instance group g" in refusal(InputDataConfig=[channel("g")])


def test_twenty_eight_days_are_the_longest() -> None:
    check({**REQUEST, "StoppingCondition": {"MaxRuntimeInSeconds": 28 * 86_400}})
    assert "28 days" in refusal(StoppingCondition={"MaxRuntimeInSeconds": 28 * 86_400 + 1})


def test_what_only_answers_have() -> None:
    for name, value in (("SelectedInstanceType", "ml.m5.large"), ("SelectedInstanceCount", 1)):
        resources = {**REQUEST["ResourceConfig"], name: value}
        assert "read-only" in refusal(ResourceConfig=resources)
