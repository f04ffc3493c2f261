from __future__ import annotations

from typing import Any

import pytest

from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle, Secondary
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.warm_pool import PoolStatus, WarmPool, keep_alive_of, pool_key

REQUEST: dict[str, Any] = {
    "TrainingJobName": "job",
    "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
}


def spec(**more: Any) -> JobSpec:
    return JobSpec.from_request({**REQUEST, **more}, Scope("123456789012", "us-east-1"))


def with_resources(**more: Any) -> JobSpec:
    return spec(ResourceConfig={**REQUEST["ResourceConfig"], **more})


def interrupted() -> Lifecycle:
    """100 s with instances, 200 s without, 100 s with."""
    return (
        Lifecycle.begin(0.0)
        .enter(Secondary.DOWNLOADING, "", 1000.0)
        .enter(Secondary.TRAINING, "", 1020.0)
        .enter(Secondary.INTERRUPTED, "", 1100.0)
        .enter(Secondary.STARTING, "", 1250.0)
        .enter(Secondary.PENDING, "", 1280.0)
        .enter(Secondary.DOWNLOADING, "", 1300.0)
        .enter(Secondary.TRAINING, "", 1310.0)
        .enter(Secondary.UPLOADING, "", 1390.0)
        .finish(Secondary.COMPLETED, "", 1400.0)
    )


def test_on_demand_every_second_of_training_is_billed() -> None:
    job = Job(spec(), interrupted())
    assert (job.training_seconds, job.billable_seconds) == (400, 400)


def test_spot_is_cheaper_and_an_interruption_is_free() -> None:
    job = Job(spec(EnableManagedSpotTraining=True), interrupted())
    assert job.life.held_seconds == 200
    assert (job.training_seconds, job.billable_seconds) == (400, 60)
    assert job.life.attempts == 2


def test_nothing_is_billed_before_the_end_or_without_training() -> None:
    begun = Job(spec(EnableManagedSpotTraining=True), Lifecycle.begin(0.0))
    assert (begun.training_seconds, begun.billable_seconds) == (None, None)
    failed = Job(spec(), Lifecycle.begin(0.0).finish(Secondary.FAILED, "", 5.0))
    assert failed.billable_seconds is None


@pytest.mark.parametrize(
    "status", [Secondary.STARTING, Secondary.DOWNLOADING, Secondary.TRAINING, Secondary.UPLOADING]
)
def test_a_retry_goes_back_to_the_start_from_wherever_it_failed(status: Secondary) -> None:
    life = Lifecycle.begin(0.0)
    for step in (Secondary.DOWNLOADING, Secondary.TRAINING, Secondary.UPLOADING):
        if life.secondary is status:
            break
        life = life.enter(step, "", 1.0)
    assert life.enter(Secondary.STARTING, "", 2.0).attempts == 2


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
    assert keep_alive_of(spec()) == 0
    assert keep_alive_of(with_resources(KeepAlivePeriodInSeconds=60)) == 60
    groups = [{"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 1}]
    grouped = {"InstanceGroups": groups, "VolumeSizeInGB": 1, "KeepAlivePeriodInSeconds": 60}
    assert keep_alive_of(spec(ResourceConfig=grouped)) == 0
    assert pool_key(spec(ResourceConfig=grouped)) is None
    assert pool_key(spec(EnableManagedSpotTraining=True)) is None


def test_what_has_to_match() -> None:
    key = pool_key(spec())
    same = (
        spec(TrainingJobName="other", HyperParameters={"a": "b"}),
        spec(Environment={"A": "b"}),
        with_resources(KeepAlivePeriodInSeconds=60),
        spec(EnableNetworkIsolation=False),
    )
    assert all(pool_key(other) == key for other in same)
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
        JobSpec.from_request(REQUEST, Scope("123456789012", "eu-west-1")),
    )
    keys = [pool_key(other) for other in different]
    assert key not in keys
    assert len(set(keys)) == len(keys)
