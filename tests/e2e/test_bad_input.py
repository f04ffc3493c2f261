"""Requests that are refused, in AWS's words, through a real client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from e2e_jobs import channel, run, shell_request

TARGET = "SageMaker.CreateTrainingJob"


@pytest.fixture
def sagemaker(emulator: Any) -> Any:
    # The client's own checks would keep most of these requests from being sent.
    return emulator.client("sagemaker", config=Config(parameter_validation=False))


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    error = refusal.value.response["Error"]
    return error["Code"], error["Message"]


def post(url: str, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    question = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(question, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_several_failures_come_in_one_message(sagemaker: Any, bucket: str) -> None:
    body = shell_request(bucket, "true")
    body["TrainingJobName"] = "-bad_name-" + "x" * 60
    body["ResourceConfig"]["InstanceCount"] = -1
    body["AlgorithmSpecification"]["TrainingInputMode"] = "fast"
    del body["RoleArn"]
    code, message = refused(sagemaker.create_training_job, **body)
    assert code == "ValidationException"
    assert message.startswith("5 validation errors detected: ")
    for part in (
        "at 'trainingJobName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63",
        "at 'trainingJobName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: ",
        "Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
        "Value '-1' at 'resourceConfig.instanceCount' failed to satisfy constraint: "
        "Member must have value greater than or equal to 0",
        "Value 'fast' at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: "
        "Member must satisfy enum value set: [",
    ):
        assert part in message


def test_a_name_is_used_once(sagemaker: Any, bucket: str) -> None:
    body = shell_request(bucket, "true")
    name = run(sagemaker, body)["TrainingJobName"]
    code, message = refused(sagemaker.create_training_job, **body)
    assert code == "ResourceInUse"
    assert message == (
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists "
        f"(arn:aws:sagemaker:us-east-1:123456789012:training-job/{name})"
    )


@pytest.mark.parametrize("prefix", ["nothing/here", None])
def test_input_that_is_not_there(sagemaker: Any, bucket: str, prefix: str | None) -> None:
    where = bucket if prefix else "no-such-bucket-anywhere"
    missing = channel(where, "train", prefix or "data")
    body = shell_request(bucket, "true", InputDataConfig=[missing])
    code, message = refused(sagemaker.create_training_job, **body)
    uri = missing["DataSource"]["S3DataSource"]["S3Uri"]
    assert code == "ValidationException"
    assert message.startswith(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that '
        "the bucket exists in the selected region (us-east-1), "
    )


def test_an_output_bucket_that_is_not_there(sagemaker: Any, bucket: str) -> None:
    output = {"S3OutputPath": "s3://no-such-bucket-anywhere/out"}
    body = shell_request(bucket, "true", OutputDataConfig=output)
    code, message = refused(sagemaker.create_training_job, **body)
    assert code == "ValidationException"
    assert message.startswith('The S3 output path "s3://no-such-bucket-anywhere/out" cannot be ')


def test_unknown_jobs(sagemaker: Any) -> None:
    for call in (sagemaker.describe_training_job, sagemaker.stop_training_job):
        assert refused(call, TrainingJobName="no-such-job") == (
            "ValidationException",
            "Requested resource not found.",
        )


def test_what_is_no_request_at_all(emulator: Any) -> None:
    status, answer = post(emulator.url, TARGET, b"{not json")
    assert (status, answer["__type"]) == (400, "SerializationException")
    status, answer = post(emulator.url, TARGET, b'{"TrainingJobName": 7}')
    assert (status, answer["__type"]) == (400, "SerializationException")
    status, answer = post(emulator.url, "SageMaker.MakeCoffee", b"{}")
    assert (status, answer["__type"]) == (400, "UnknownOperationException")


def test_operations_that_are_not_built_say_so(emulator: Any) -> None:
    status, answer = post(emulator.url, "SageMaker.CreateDomain", b"{}")
    assert 400 <= status < 600
    assert "CreateDomain" in answer["message"]


def test_an_image_that_does_not_exist(sagemaker: Any, emulator: Any, bucket: str) -> None:
    body = shell_request(bucket, "true")
    own = "123456789012.dkr.ecr.us-east-1.amazonaws.com/no-such-repository:latest"
    body["AlgorithmSpecification"]["TrainingImage"] = own
    code, message = refused(sagemaker.create_training_job, **body)
    assert code == "ValidationException"
    assert message.startswith(
        "Cannot find repository: no-such-repository in registry ID: 123456789012 Please check "
        "if your ECR repository exists and role "
    )
    assert "EMULATOR_IMAGES" in message
    code, _ = refused(
        emulator.client("ecr").describe_repositories, repositoryNames=["no-such-repository"]
    )
    assert code == "RepositoryNotFoundException"


@pytest.mark.parametrize("member", ["OutputDataConfig", "CheckpointConfig"])
def test_a_place_that_the_embedded_store_would_change(
    sagemaker: Any, bucket: str, member: str
) -> None:
    place = f"s3://{bucket}/out//deep"
    body = shell_request(bucket, "true")
    body[member] = {"S3OutputPath" if member == "OutputDataConfig" else "S3Uri": place}
    code, message = refused(sagemaker.create_training_job, **body)
    assert code == "ValidationException"
    assert f'"{place}" cannot be used. The key' in message
