from __future__ import annotations

from typing import Any

import pytest

from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.warm_pool import PoolStatus, WarmPool
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import training_job
from emulator.resources.training.billing import billable_seconds, training_seconds

REQUEST: dict[str, Any] = {
    "TrainingJobName": "job",
    "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
}


def spec(**more: Any) -> WorkloadSpec:
    return training_job({**REQUEST, **more}, Scope("123456789012", "us-east-1"))


def with_resources(**more: Any) -> WorkloadSpec:
    return spec(ResourceConfig={**REQUEST["ResourceConfig"], **more})


def interrupted() -> Lifecycle:
    """100 s with instances, 200 s without, 100 s with."""
    return (
        Lifecycle.begin(0.0)
        .enter(Phase.DOWNLOADING, "", 1000.0)
        .enter(Phase.RUNNING, "", 1020.0)
        .enter(Phase.INTERRUPTED, "", 1100.0)
        .enter(Phase.STARTING, "", 1250.0)
        .enter(Phase.PENDING, "", 1280.0)
        .enter(Phase.DOWNLOADING, "", 1300.0)
        .enter(Phase.RUNNING, "", 1310.0)
        .enter(Phase.UPLOADING, "", 1390.0)
        .finish(Phase.COMPLETED, "", 1400.0)
    )


def test_on_demand_every_second_of_training_is_billed() -> None:
    job = Job(spec(), interrupted())
    assert (training_seconds(job), billable_seconds(job)) == (400, 400)


def test_spot_is_cheaper_and_an_interruption_is_free() -> None:
    job = Job(spec(EnableManagedSpotTraining=True), interrupted())
    assert job.life.held_seconds == 200
    assert (training_seconds(job), billable_seconds(job)) == (400, 60)
    assert job.life.attempts == 2


def test_nothing_is_billed_before_the_end_or_without_training() -> None:
    begun = Job(spec(EnableManagedSpotTraining=True), Lifecycle.begin(0.0))
    assert (training_seconds(begun), billable_seconds(begun)) == (None, None)
    failed = Job(spec(), Lifecycle.begin(0.0).finish(Phase.FAILED, "", 5.0))
    assert billable_seconds(failed) is None


@pytest.mark.parametrize(
    "status", [Phase.STARTING, Phase.DOWNLOADING, Phase.RUNNING, Phase.UPLOADING]
)
def test_a_retry_goes_back_to_the_start_from_wherever_it_failed(status: Phase) -> None:
    life = Lifecycle.begin(0.0)
    for step in (Phase.DOWNLOADING, Phase.RUNNING, Phase.UPLOADING):
        if life.phase is status:
            break
        life = life.enter(step, "", 1.0)
    assert life.enter(Phase.STARTING, "", 2.0).attempts == 2


def test_the_life_of_a_pool() -> None:
    pool = WarmPool(60)
    assert (pool.status, pool.expires, pool.retained_seconds) == (PoolStatus.IN_USE, None, None)
    kept = pool.keep(100.0)
    assert (kept.status, kept.expires, kept.retained_seconds) == (PoolStatus.AVAILABLE, 160.0, None)
    reused = kept.reuse("next", 130.0)
    assert (reused.status, reused.reused_by, reused.retained_seconds) == (
        PoolStatus.REUSED,
        "next",
        30,
    )
    assert reused.end(150.0) == reused
    ended = kept.end(160.0)
    assert (ended.status, ended.retained_seconds) == (PoolStatus.TERMINATED, 60)
    assert pool.end(5.0).retained_seconds is None


def test_who_keeps_a_pool() -> None:
    assert spec().keep_alive == 0
    assert with_resources(KeepAlivePeriodInSeconds=60).keep_alive == 60
    groups = [{"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 1}]
    grouped = {"InstanceGroups": groups, "VolumeSizeInGB": 1, "KeepAlivePeriodInSeconds": 60}
    assert spec(ResourceConfig=grouped).keep_alive == 0
    assert spec(ResourceConfig=grouped).pool_key is None
    assert spec(EnableManagedSpotTraining=True).pool_key is None


def test_what_has_to_match() -> None:
    key = spec().pool_key
    same = (
        spec(TrainingJobName="other", HyperParameters={"a": "b"}),
        spec(Environment={"A": "b"}),
        with_resources(KeepAlivePeriodInSeconds=60),
        spec(EnableNetworkIsolation=False),
    )
    assert all(other.pool_key == key for other in same)
    vpc = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    different = (
        spec(RoleArn="arn:aws:iam::123456789012:role/Other"),
        with_resources(InstanceType="ml.m5.xlarge"),
        with_resources(InstanceCount=1),
        with_resources(VolumeSizeInGB=2),
        with_resources(VolumeKmsKeyId="key"),
        spec(VpcConfig=vpc),
        spec(EnableNetworkIsolation=True),
        spec(EnableInterContainerTrafficEncryption=True),
        training_job(REQUEST, Scope("123456789012", "eu-west-1")),
    )
    keys = [other.pool_key for other in different]
    assert key not in keys
    assert len(set(keys)) == len(keys)
