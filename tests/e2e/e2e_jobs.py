"""Training jobs as boto3 users write them: a script, its tar in S3, CreateTrainingJob, wait."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.2.0-cpu-py310"
TERMINAL = ("Completed", "Failed", "Stopped")


def source_tar(files: Mapping[str, str]) -> bytes:
    """A sourcedir.tar.gz of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def request(bucket: str, **changes: Any) -> dict[str, Any]:
    """The least CreateTrainingJob request, with members replaced or added."""
    return {
        "TrainingJobName": f"e2e-{uuid.uuid4().hex[:12]}",
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **changes,
    }


def shell_request(bucket: str, command: str, instances: int = 1, **changes: Any) -> dict[str, Any]:
    """A job whose container runs one bash command."""
    body = request(bucket, **changes)
    body["AlgorithmSpecification"] = {
        **body["AlgorithmSpecification"],
        "ContainerEntrypoint": ["/bin/bash", "-c"],
        "ContainerArguments": [command],
    }
    body["ResourceConfig"] = {**body["ResourceConfig"], "InstanceCount": instances}
    return body


def script_request(
    s3: Any,
    bucket: str,
    files: Mapping[str, str],
    program: str = "train.py",
    instances: int = 1,
    hyperparameters: Mapping[str, Any] | None = None,
    channels: Sequence[str] = (),
    **changes: Any,
) -> dict[str, Any]:
    """A framework job: the toolkit's own `train` fetches and runs the script."""
    body = request(bucket, **changes)
    key = f"{body['TrainingJobName']}/source/sourcedir.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=source_tar(files))
    values = {
        "sagemaker_program": program,
        "sagemaker_submit_directory": f"s3://{bucket}/{key}",
        "sagemaker_region": "us-east-1",
        "sagemaker_container_log_level": 20,
        **(hyperparameters or {}),
    }
    # SDK v2 JSON-encodes every value, and the toolkit decodes them again.
    body["HyperParameters"] = {name: json.dumps(value) for name, value in values.items()}
    body["ResourceConfig"] = {**body["ResourceConfig"], "InstanceCount": instances}
    if channels:
        body["InputDataConfig"] = [channel(bucket, name) for name in channels]
    return body


def channel(bucket: str, name: str, prefix: str | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": f"s3://{bucket}/{prefix or f'data/{name}'}",
                "S3DataDistributionType": "FullyReplicated",
            }
        },
        **changes,
    }


def wait(sagemaker: Any, name: str, timeout: float = 180) -> dict[str, Any]:
    """Describe until the job is terminal."""
    return wait_for(sagemaker, name, lambda job: job["TrainingJobStatus"] in TERMINAL, timeout)


def wait_for(sagemaker: Any, name: str, wanted: Any, timeout: float = 180) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        job: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
        if wanted(job):
            return job
        assert time.monotonic() < deadline, f"{name} is still {job['SecondaryStatus']}"
        time.sleep(0.1)


def run(sagemaker: Any, body: Mapping[str, Any], timeout: float = 180) -> dict[str, Any]:
    sagemaker.create_training_job(**body)
    return wait(sagemaker, body["TrainingJobName"], timeout)


def log_lines(logs: Any, job: str, host: str = "algo-1") -> list[str]:
    """Every line of one instance's stream."""
    group = "/aws/sagemaker/TrainingJobs"
    [stream] = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/{host}-")[
        "logStreams"
    ]
    where = {"logGroupName": group, "logStreamName": stream["logStreamName"]}
    page = logs.get_log_events(**where, startFromHead=True)
    lines: list[str] = []
    while page["events"]:
        lines += [event["message"] for event in page["events"]]
        page = logs.get_log_events(**where, nextToken=page["nextForwardToken"], startFromHead=True)
    return lines


def files_in_tar(s3: Any, uri: str) -> dict[str, bytes]:
    """The regular files of an archive in S3."""
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {
            entry.name.removeprefix("./"): data.read()
            for entry in tar
            if (data := tar.extractfile(entry)) is not None
        }


_ADMIN_ROUTES = (
    "GET gpus",
    "POST faults",
    "DELETE faults",
    "GET v1/machine",
    "POST v1/jobs/training-job/other/stop",
    "GET ui/",
    "GET ui/enter?token=guessed",
    "GET metrics",
)
ADMIN_ROUTES_REFUSED = [f"{route} 403" for route in _ADMIN_ROUTES] * 2
_ASKS_FOR_ADMIN_ROUTES = """
import os, urllib.request as u
from urllib.error import HTTPError
e = os.environ
e["no_proxy"] = ""
for way in ({}, {"http": e["HTTP_PROXY"]} if "HTTP_PROXY" in e else {}):
    for route in e["ROUTES"].split(","):
        method, path = route.split()
        ask = u.Request(e["AWS_ENDPOINT_URL"] + "/_emulator/" + path, method=method)
        try:
            print(route, u.build_opener(u.ProxyHandler(way)).open(ask).status)
        except HTTPError as error:
            print(route, error.code)
"""


def ask_for_admin_routes(emulator: Any, bucket: str) -> list[str]:
    """What they answer to a job, directly and through its proxy; see ADMIN_ROUTES_REFUSED."""
    body = shell_request(bucket, 'python3 -c "$SCRIPT"')
    body["Environment"] = {"SCRIPT": _ASKS_FOR_ADMIN_ROUTES, "ROUTES": ",".join(_ADMIN_ROUTES)}
    job = run(emulator.client("sagemaker"), body)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    lines = log_lines(emulator.client("logs"), job["TrainingJobName"])
    return [line for line in lines if line.startswith(("GET ", "POST ", "DELETE "))]
