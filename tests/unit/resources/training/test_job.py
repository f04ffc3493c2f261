from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.model.scope import Scope
from emulator.model.workload import S3Uri, WorkloadSpec
from emulator.resources.training import training_job

SCOPE = Scope("123456789012", "us-east-1")
CHANNEL = {
    "ChannelName": "train",
    "DataSource": {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": "s3://bucket/data",
            "S3DataDistributionType": "ShardedByS3Key",
            "InstanceGroupNames": ["workers"],
        }
    },
}


def spec(**more: Any) -> WorkloadSpec:
    request = {
        "TrainingJobName": "My-Job",
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "FastFile"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 3, "VolumeSizeInGB": 1},
        **more,
    }
    return training_job(request, SCOPE)


def test_what_a_request_leaves_out() -> None:
    job = spec()
    assert (job.entrypoint, job.arguments, job.saved) == (None, ("train",), ())
    assert job.max_runtime == 86_400
    assert all(output.archive for output in job.outputs)
    assert [host.name for host in job.hosts] == ["algo-1", "algo-2", "algo-3"]
    assert {host.group for host in job.hosts} == {"homogeneousCluster"}


def test_arn_and_addresses() -> None:
    job = spec()
    assert job.arn == "arn:aws:sagemaker:us-east-1:123456789012:training-job/my-job"
    assert job.artifacts == "s3://bucket/out/My-Job/output/model.tar.gz"
    plain = spec(OutputDataConfig={"S3OutputPath": "s3://bucket", "CompressionType": "NONE"})
    assert plain.artifacts == "s3://bucket/My-Job/output/model"


def test_hosts_are_numbered_through_the_groups() -> None:
    groups = [
        {"InstanceGroupName": "head", "InstanceType": "ml.m5.large", "InstanceCount": 1},
        {"InstanceGroupName": "workers", "InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
    ]
    job = spec(ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1})
    assert [(host.name, host.group, host.instance_type) for host in job.hosts] == [
        ("algo-1", "head", "ml.m5.large"),
        ("algo-2", "workers", "ml.g5.xlarge"),
        ("algo-3", "workers", "ml.g5.xlarge"),
    ]


def test_a_channel_has_its_own_mode_or_the_jobs() -> None:
    first, second = spec(
        InputDataConfig=[CHANNEL, {**CHANNEL, "ChannelName": "test", "InputMode": "File"}]
    ).channels
    assert (first.input_mode, second.input_mode) == ("FastFile", "File")
    assert first.s3_data_type == "S3Prefix"
    assert first.instance_groups == ("workers",)


def test_checkpoints_have_a_default_path() -> None:
    job = spec(CheckpointConfig={"S3Uri": "s3://bucket/checkpoints"})
    assert [saved.path for saved in job.saved] == ["/opt/ml/checkpoints"]


@given(bucket=st.from_regex(r"[a-z0-9.-]{3,20}", fullmatch=True), key=st.text())
def test_an_s3_address_reads_back(bucket: str, key: str) -> None:
    uri = S3Uri(bucket, key)
    assert S3Uri.parse(str(uri)) == uri
    joined = uri.join("job", "output")
    assert joined.key.endswith("job/output")
    assert not joined.key.endswith("//job/output")


@pytest.mark.parametrize("text", ["", "bucket/key", "http://bucket/key", "s3:///key"])
def test_what_is_no_s3_address(text: str) -> None:
    with pytest.raises(ValueError, match="not an S3 URI"):
        S3Uri.parse(text)


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_region_says_the_partition(region: str, partition: str) -> None:
    assert (
        Scope("1" * 12, region).arn("training-job", "j").startswith(f"arn:{partition}:sagemaker:")
    )
