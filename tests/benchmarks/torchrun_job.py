"""The two-instance torchrun job that benchmarks submit: its data, its submission, its lines."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3

from emulator.app import Emulator
from emulator.settings import Settings

HOSTS = ("algo-1", "algo-2")
HYPERPARAMETERS = {
    "sagemaker_program": '"train.py"',
    "sagemaker_submit_directory": '"/opt/ml/input/data/code/sourcedir.tar.gz"',
    "sagemaker_torch_distributed_enabled": "true",
    "sagemaker_container_log_level": "20",
    "sagemaker_region": '"us-east-1"',
}
_BUCKET = "benchmark-bucket"

Clients = Callable[[str], Any]
"""A boto3 client of the service of that name."""


@dataclass(frozen=True)
class Ran:
    """A job that was submitted and has ended; times in epoch seconds."""

    started: float
    ended: float
    lines: list[str]


def archive(script: str) -> bytes:
    """The script as the SDK packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("train.py")
        entry.size = len(script)
        tar.addfile(entry, io.BytesIO(script.encode()))
    return buffer.getvalue()


def prepare(root: Path, host: str, interface: str, script: str) -> None:
    """/opt/ml of one instance in `root`/ml, as the emulator would fill it."""
    config = root / "ml" / "input" / "config"
    code = root / "ml" / "input" / "data" / "code"
    for folder in (config, code, root / "ml" / "model", root / "ml" / "output" / "data"):
        folder.mkdir(parents=True)
    (code / "sourcedir.tar.gz").write_bytes(archive(script))
    (config / "hyperparameters.json").write_text(json.dumps(HYPERPARAMETERS))
    (config / "inputdataconfig.json").write_text('{"code":{"TrainingInputMode":"File"}}')
    group = {"instance_group_name": "all", "instance_type": "ml.m5.xlarge", "hosts": HOSTS}
    resources = {
        "current_host": host,
        "hosts": HOSTS,
        "network_interface_name": interface,
        "current_instance_type": "ml.m5.xlarge",
        "current_group_name": "all",
        "instance_groups": [group],
    }
    (config / "resourceconfig.json").write_text(json.dumps(resources))


@contextmanager
def emulator(runtime: Literal["process", "docker"], script: str) -> Iterator[Clients]:
    """An emulator of its own, with the script in its S3."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(port=0, state_dir=Path(folder), runtime=runtime)
        with Emulator.running(settings) as running:

            def client(service: str) -> Any:
                return boto3.client(
                    service,
                    endpoint_url=running.url,
                    region_name=settings.region,
                    aws_access_key_id=settings.access_key,
                    aws_secret_access_key=settings.secret_key.get_secret_value(),
                )

            s3, body = client("s3"), archive(script)
            s3.create_bucket(Bucket=_BUCKET)
            s3.put_object(Bucket=_BUCKET, Key="code/sourcedir.tar.gz", Body=body)
            yield client


def run_job(client: Clients, image: str, **resources: int) -> Ran:
    """Submit the job and wait for its end; `resources` are more members of ResourceConfig."""
    sagemaker, name = client("sagemaker"), f"benchmark-{uuid.uuid4().hex[:8]}"
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{_BUCKET}/code/"}
    started = time.time()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/SageMakerRole",
        HyperParameters=HYPERPARAMETERS,
        InputDataConfig=[{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": f"s3://{_BUCKET}/out"},
        ResourceConfig={
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": len(HOSTS),
            "VolumeSizeInGB": 1,
            **resources,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    while True:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        if job["TrainingJobStatus"] != "InProgress":
            break
        time.sleep(0.05)
    ended = time.time()
    pages = (
        client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name)
    )
    return Ran(started, ended, [event["message"] for page in pages for event in page["events"]])
