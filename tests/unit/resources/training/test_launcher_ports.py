from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import training_job


def spec(
    name: str, instances: int = 1, parameters: Mapping[str, str] | None = None
) -> WorkloadSpec:
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances},
        "HyperParameters": dict(parameters or {}),
    }
    return training_job(request, Scope("123456789012", "us-east-1"))


@pytest.mark.parametrize(
    ("job", "listens"),
    [
        (spec("script"), False),
        (spec("hosts", instances=2), True),
        (spec("torchrun", parameters={"sagemaker_torch_distributed_enabled": "true"}), True),
        (spec("quoted", parameters={"sagemaker_mpi_enabled": '"True"'}), True),
        (spec("off", parameters={"sagemaker_torch_distributed_enabled": "false"}), False),
    ],
)
def test_launchers_listen_on_fixed_ports(job: WorkloadSpec, listens: bool) -> None:
    assert bool(job.ports) == listens
