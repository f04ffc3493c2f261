"""The embedded object store is killed: nothing is lost, and jobs and clients go on."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import files_in_tar, run, script_request, shell_request, wait
from emulators import RunningEmulator, start_emulator

BUCKET = "store-restarts"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningEmulator]:
    running = start_emulator(tmp_path / "state")
    running.client("s3").create_bucket(Bucket=BUCKET)
    yield running
    running.end()


def store_process(emulator: RunningEmulator) -> int | None:
    """The process id of the emulator's SeaweedFS."""
    tasks = Path(f"/proc/{emulator.process.pid}/task")
    for children in tasks.glob("*/children"):
        for pid in children.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"/weed"):
                return int(pid)
    return None


def kill_store(emulator: RunningEmulator) -> None:
    until(lambda: store_process(emulator) is not None)
    pid = store_process(emulator)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def health(emulator: RunningEmulator) -> dict[str, Any]:
    with urllib.request.urlopen(f"{emulator.url}/_emulator/health", timeout=20) as answer:
        return dict(json.load(answer))


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_jobs_and_clients_go_on_over_its_restarts(own: RunningEmulator) -> None:
    s3, sagemaker = own.client("s3"), own.client("sagemaker")
    for number in range(12):
        s3.put_object(Bucket=BUCKET, Key=f"data/{number}", Body=os.urandom(4 << 20))
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
    body = shell_request(
        BUCKET,
        "cd /opt/ml/input/data/data && cat * | sha256sum > /opt/ml/model/sum; "
        "head -c 50000000 /dev/urandom > /opt/ml/model/large; sleep 2",
        InputDataConfig=[{"ChannelName": "data", "DataSource": {"S3DataSource": source}}],
    )
    sagemaker.create_training_job(**body)
    kept = []
    for turn in range(4):
        kill_store(own)
        until(lambda: health(own)["status"] == "degraded")
        assert "started again" in health(own)["object_store"]["problem"]
        for number in range(5):  # while it is away: the first ones wait for it
            key = f"during/{turn}-{number}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
            kept.append(key)
        until(lambda: health(own)["status"] == "ok")
        time.sleep(0.5)
    job = wait(sagemaker, body["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert {"sum", "large"} <= set(files_in_tar(s3, job["ModelArtifacts"]["S3ModelArtifacts"]))
    for key in kept:
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()


def test_a_script_that_cannot_be_fetched_is_no_error_of_the_algorithm(
    own: RunningEmulator,
) -> None:
    s3, sagemaker = own.client("s3"), own.client("sagemaker")
    body = script_request(
        s3, BUCKET, {"train.py": "print('ran')"}, Environment={"AWS_MAX_ATTEMPTS": "1"}
    )
    sagemaker.create_training_job(**body)
    config = own.state_dir / "objects.s3.json"
    right = config.read_text()
    config.write_text("{ it cannot start with this")
    kill_store(own)
    job = wait(sagemaker, body["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: "), job["FailureReason"]
    assert "object store" in job["FailureReason"]
    config.write_text(right)
    until(lambda: health(own)["status"] == "ok")
    body = script_request(s3, BUCKET, {"train.py": "print('ran')"})
    assert run(sagemaker, body)["TrainingJobStatus"] == "Completed"


def test_a_store_that_hangs_costs_a_client_no_request(own: RunningEmulator) -> None:
    s3 = own.client("s3")
    s3.put_object(Bucket=BUCKET, Key="before", Body=b"before")
    pid = store_process(own)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    # Its answer comes from the server that is started instead, or is 503 and boto3 tries again.
    s3.put_object(Bucket=BUCKET, Key="meanwhile", Body=b"meanwhile")
    assert store_process(own) != pid
    for key in ("before", "meanwhile"):
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()
    until(lambda: health(own)["status"] == "ok")
