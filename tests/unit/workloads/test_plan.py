"""Whole plans, compared as values."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_examples import TRAITS, job

from emulator.model.plan import InstancePlan, JobPlan, Mount, Sharing
from emulator.model.workload import WorkloadSpec
from emulator.workloads.plan.job_plan import Credentials, plan_job
from emulator.workloads.plan.layout import InstanceDirs

CREDENTIALS = Credentials("key", "secret", "token")
COMMON = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_ENDPOINT_URL": "http://emulator:4570",
    "S3_ENDPOINT_URL": "http://emulator:4570",
    "TRAINING_JOB_NAME": "Job",
    "TRAINING_JOB_ARN": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
    "AWS_REGION": "us-east-1",
    "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
    "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
}


def planned(
    spec: WorkloadSpec,
    gpus: dict[str, tuple[str, ...]] | None = None,
    conveniences: dict[str, dict[str, str]] | None = None,
    sharing: Sharing | None = None,
) -> JobPlan:
    dirs = {
        host.name: InstanceDirs(Path("/jobs/j") / host.name, spec.volumes) for host in spec.hosts
    }
    return plan_job(
        spec, dirs, TRAITS, gpus or {}, CREDENTIALS, {"job": "Job"}, conveniences, sharing
    )


def test_a_job_of_another_account_signs_as_that_one() -> None:
    spec = job()
    dirs = {
        host.name: InstanceDirs(Path("/jobs/j") / host.name, spec.volumes) for host in spec.hosts
    }
    for account, key in ((spec.scope.account, "key"), ("999999999999", spec.scope.account)):
        credentials = Credentials("key", "secret", account=account)
        (only,) = plan_job(spec, dirs, TRAITS, {}, credentials).instances
        assert only.environment["AWS_ACCESS_KEY_ID"] == key


def instance(host: str, **changes: object) -> InstancePlan:
    root = Path("/jobs/j") / host
    values: dict[str, object] = {
        "host": host,
        "image": "image:1",
        "entrypoint": None,
        "arguments": ("train",),
        "environment": {**COMMON, "NVIDIA_VISIBLE_DEVICES": "void"},
        "mounts": (
            Mount(root / "ml/input", "/opt/ml/input"),
            Mount(root / "ml/model", "/opt/ml/model"),
            Mount(root / "ml/output", "/opt/ml/output"),
            Mount(root / "ml/checkpoints", "/opt/ml/checkpoints"),
            Mount(root / "tmp", "/tmp"),
        ),
        "scratch": root / "scratch",
        "gpus": (),
        "instance_type": "ml.g4dn.12xlarge",
        **changes,
    }
    return InstancePlan(**values)  # type: ignore[arg-type]


def test_two_instances_without_gpus() -> None:
    spec = job(ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 2})
    assert planned(spec) == JobPlan(
        job="Job",
        arn=spec.arn,
        instances=tuple(
            instance(host, instance_type="ml.c5.xlarge") for host in ("algo-1", "algo-2")
        ),
        network_isolation=False,
        labels={"job": "Job"},
    )


def test_gpus_and_what_is_said_about_them() -> None:
    plan = planned(
        job(),
        {"algo-1": ("GPU-a", "GPU-b")},
        conveniences={"algo-1": {"NCCL_HOSTID": "Job-algo-1"}},
    )
    assert plan.instances == (
        instance(
            "algo-1",
            gpus=("GPU-a", "GPU-b"),
            environment={**COMMON, "NCCL_HOSTID": "Job-algo-1"},
        ),
    )


def test_instances_that_share_have_the_first_ones_tmp_and_see_all_gpus() -> None:
    spec = job(ResourceConfig={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2})
    gpus = {"algo-1": ("GPU-a",), "algo-2": ("GPU-b",)}
    apart, together = planned(spec, gpus), planned(spec, gpus, sharing=Sharing(True, True, True))
    assert [tmp_of(one) for one in apart.instances] == [
        Path("/jobs/j/algo-1/tmp"),
        Path("/jobs/j/algo-2/tmp"),
    ]
    assert {tmp_of(one) for one in together.instances} == {Path("/jobs/j/algo-1/tmp")}
    assert [apart.visible_gpus(one) for one in apart.instances] == [("GPU-a",), ("GPU-b",)]
    assert {together.visible_gpus(one) for one in together.instances} == {("GPU-a", "GPU-b")}


def tmp_of(one: InstancePlan) -> Path:
    return next(mount.source for mount in one.mounts if mount.target == "/tmp")


@pytest.mark.parametrize(
    ("algorithm", "entrypoint", "arguments"),
    [
        ({}, None, ("train",)),
        ({"ContainerEntrypoint": ["/bin/bash"]}, ("/bin/bash",), ()),
        ({"ContainerArguments": ["a", "b"]}, None, ("a", "b")),
        (
            {"ContainerEntrypoint": ["/bin/bash"], "ContainerArguments": ["-c", "x"]},
            ("/bin/bash",),
            ("-c", "x"),
        ),
    ],
)
def test_the_command(
    algorithm: dict[str, list[str]], entrypoint: tuple[str, ...] | None, arguments: tuple[str, ...]
) -> None:
    plan = planned(job(AlgorithmSpecification={"TrainingImage": "image:1", **algorithm}))
    assert plan.instances == (instance("algo-1", entrypoint=entrypoint, arguments=arguments),)


def test_the_request_wins_over_conveniences_and_loses_to_the_platform() -> None:
    spec = job(
        Environment={
            "AWS_ENDPOINT_URL": "http://elsewhere",
            "AWS_ACCESS_KEY_ID": "own",
            "TRAINING_JOB_NAME": "forged",
            "NCCL_NET": "IB",
            "MINE": "1",
        }
    )
    more = {"algo-1": {"NCCL_NET": "Socket"}}
    plan = planned(spec, {"algo-1": ("GPU-a",)}, conveniences=more)
    environment = plan.instances[0].environment
    assert environment["AWS_ENDPOINT_URL"] == "http://elsewhere"
    assert environment["NCCL_NET"] == "IB"
    assert environment["MINE"] == "1"
    assert environment["TRAINING_JOB_NAME"] == "Job"
    assert environment["AWS_ACCESS_KEY_ID"] == "own"
    assert not {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & environment.keys()


def test_checkpoints_are_where_the_request_wants_them() -> None:
    spec = job(CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "/state/"})
    mounts = planned(spec).instances[0].mounts
    assert Mount(Path("/jobs/j/algo-1/ml/checkpoints"), "/state") in mounts
    assert "/opt/ml/checkpoints" not in [mount.target for mount in mounts]


def test_no_two_mounts_have_the_same_place() -> None:
    spec = job(CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/model"})
    targets = [mount.target for mount in planned(spec).instances[0].mounts]
    assert targets == ["/opt/ml/input", "/opt/ml/model", "/opt/ml/output", "/tmp"]


def test_no_names_of_the_toolkits_own_and_no_secret_in_a_log() -> None:
    assert not [n for n in planned(job()).instances[0].environment if n.startswith("SM_")]
    assert "secret" not in repr(CREDENTIALS)
