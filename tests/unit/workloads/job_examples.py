"""Jobs that the tests of this folder plan."""

from __future__ import annotations

from typing import Any

from emulator.model.plan import RuntimeTraits
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import training_job

TRAITS = RuntimeTraits("docker", "eth0", "http://emulator:4570")


def channel(name: str = "data", **members: Any) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://bucket/{name}",
        "S3DataDistributionType": "FullyReplicated",
    }
    source.update(members.pop("s3", {}))
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **members}


def job(**members: Any) -> WorkloadSpec:
    request = {
        "TrainingJobName": "Job",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.g4dn.12xlarge", "InstanceCount": 1},
        **members,
    }
    return training_job(request, Scope("123456789012", "us-east-1"))


def named(name: str = "job", instances: int = 1) -> WorkloadSpec:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": instances}
    return job(TrainingJobName=name, ResourceConfig=resources)


def groups(*sizes: tuple[str, int]) -> dict[str, Any]:
    return {
        "InstanceGroups": [
            {"InstanceGroupName": name, "InstanceType": "ml.c5.xlarge", "InstanceCount": count}
            for name, count in sizes
        ]
    }
