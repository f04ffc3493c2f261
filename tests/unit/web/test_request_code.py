from __future__ import annotations

import json
import shlex
from types import SimpleNamespace
from typing import Any

from emulator.resources.processing import PROCESSING
from emulator.resources.training import TRAINING
from emulator.web.request_code import as_boto3, as_command, as_json, as_sdk, operation

REQUEST = {
    "TrainingJobName": "it's",
    "RoleArn": "arn:aws:iam::123456789012:role/r",
    "AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://b/o"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    "HyperParameters": {"text": "a'b\"c $HOME `x`\n"},
    "InputDataConfig": [
        {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/train"}}}
    ],
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


def test_the_command_carries_the_request_through_a_shell() -> None:
    words = shlex.split(as_command(TRAINING, REQUEST))
    assert words[:4] == ["aws", "sagemaker", "create-training-job", "--cli-input-json"]
    assert json.loads(words[4]) == REQUEST == json.loads(as_json(REQUEST))


def test_the_code_for_boto3_sends_the_request() -> None:
    sent: dict[str, Any] = {}
    client = SimpleNamespace(create_training_job=lambda **members: sent.update(members))
    code = as_boto3(TRAINING, REQUEST).replace("import boto3\n", "")
    exec(code, {"boto3": SimpleNamespace(client=lambda _: client)})
    assert sent == REQUEST


def test_the_code_for_the_sdk_trains_the_same() -> None:
    made: dict[str, Any] = {}
    fitted: list[Any] = []

    class Estimator:
        def __init__(self, **options: Any):
            made.update(options)

        def fit(self, inputs: Any = None, job_name: str = "") -> None:
            fitted.extend([inputs, job_name])

    code = as_sdk(REQUEST).partition("\n")[2]
    exec(code, {"Estimator": Estimator})
    assert made == {
        "image_uri": "image:1",
        "role": REQUEST["RoleArn"],
        "instance_count": 2,
        "instance_type": "ml.m5.large",
        "volume_size": 1,
        "max_run": 60,
        "output_path": "s3://b/o",
        "hyperparameters": REQUEST["HyperParameters"],
    }
    assert fitted == [{"train": "s3://b/train"}, "it's"]


def test_other_kinds() -> None:
    assert operation(PROCESSING) == "CreateProcessingJob"
    assert as_sdk({"ProcessingJobName": "p"}) == ""
