"""Jobs in containers outlive the emulator: the one after it finishes them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import files_in_tar, log_lines, shell_request, wait, wait_for
from emulators import RunningEmulator, as_first_layout, start_emulator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

COUNTING = (
    'i=0; until [ -e /opt/ml/output/enough ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done; '
    "echo made > /opt/ml/model/m; echo kept > /opt/ml/checkpoints/end"
)


def checkpoints(bucket: str) -> dict[str, Any]:
    return {"CheckpointConfig": {"S3Uri": f"s3://{bucket}/checkpoints"}}


def start_job(emulator: RunningEmulator, command: str, instances: int = 1, **more: Any) -> str:
    s3 = emulator.client("s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket="restart-bucket")
    body = shell_request("restart-bucket", command, instances, **more)
    emulator.client("sagemaker").create_training_job(**body)
    return str(body["TrainingJobName"])


def await_line(emulator: RunningEmulator, job: str, line: str) -> None:
    wait_for(emulator.client("sagemaker"), job, lambda job: job["SecondaryStatus"] == "Training")
    deadline = time.monotonic() + 60
    while line not in log_lines(emulator.client("logs"), job):
        assert time.monotonic() < deadline, line
        time.sleep(0.05)


def containers(job: str) -> list[str]:
    label = f"label=sagemaker-emulator.training-job={job}"
    listing = ["docker", "ps", "--all", "--quiet", "--filter", label]
    return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()


def until_printed(container: str, line: str) -> None:
    deadline = time.monotonic() + 60
    while line not in subprocess.check_output(["docker", "logs", container], text=True):
        assert time.monotonic() < deadline, line
        time.sleep(0.1)


def end(emulator: RunningEmulator, how: signal.Signals) -> None:
    os.kill(emulator.process.pid, how)
    emulator.process.wait(120)


def counted(emulator: RunningEmulator, job: str, host: str) -> list[str]:
    lines = log_lines(emulator.client("logs"), job, host)
    return [line for line in lines if line.startswith("line ")]


@pytest.mark.parametrize(
    ("how", "first_layout"),
    [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGKILL, True)],
)
def test_a_job_goes_on_and_is_finished(
    tmp_path: Path, how: signal.Signals, first_layout: bool
) -> None:
    first = start_emulator(tmp_path / "state", runtime="docker")
    job = start_job(first, COUNTING, 2, **checkpoints("restart-bucket"))
    await_line(first, job, "line 40")
    before = first.client("sagemaker").describe_training_job(TrainingJobName=job)
    end(first, how)
    running = containers(job)
    assert len(running) == 2
    for container in running:
        until_printed(container, "line 61")  # it writes while nobody listens
    if first_layout:
        as_first_layout(tmp_path / "state")
    second = start_emulator(tmp_path / "state", runtime="docker")
    try:
        sagemaker, s3 = second.client("sagemaker"), second.client("s3")
        assert containers(job) == running
        taken_over = sagemaker.describe_training_job(TrainingJobName=job)
        assert taken_over["SecondaryStatus"] == "Training"
        for folder in (tmp_path / "state" / "jobs").glob("*/*/*/algo-*/ml/output"):
            (folder / "enough").touch()
        after = wait(sagemaker, job, timeout=120)
        assert after["TrainingJobStatus"] == "Completed", after.get("FailureReason")
        for host in ("algo-1", "algo-2"):
            lines = counted(second, job, host)
            assert len(lines) > 60, "it wrote on while nobody listened"
            assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
        statuses = [entry["Status"] for entry in after["SecondaryStatusTransitions"]]
        assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
        assert after["TrainingStartTime"] == before["TrainingStartTime"]
        assert files_in_tar(s3, after["ModelArtifacts"]["S3ModelArtifacts"]) == {"m": b"made\n"}
        saved = s3.get_object(Bucket="restart-bucket", Key="checkpoints/end")["Body"].read()
        assert saved == b"kept\n"
        deadline = time.monotonic() + 60
        while containers(job):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        second.end()


def test_a_job_that_ended_meanwhile_is_not_lost(tmp_path: Path) -> None:
    first = start_emulator(tmp_path / "state", runtime="docker")
    job = start_job(first, "echo 'line 1'; sleep 3; echo -n why > /opt/ml/output/failure; exit 7")
    await_line(first, job, "line 1")
    end(first, signal.SIGKILL)
    subprocess.run(["docker", "wait", *containers(job)], check=True, timeout=60)
    second = start_emulator(tmp_path / "state", runtime="docker")
    try:
        after = wait(second.client("sagemaker"), job)
        assert after["FailureReason"] == "AlgorithmError: why, exit code: 7"
        assert counted(second, job, "algo-1") == ["line 1"]
    finally:
        second.end()


def test_a_job_whose_containers_are_gone_fails_and_another_runtime_settles_it(
    tmp_path: Path,
) -> None:
    first = start_emulator(tmp_path / "state", runtime="docker")
    removed, left = (start_job(first, "echo 'line 1'; sleep 1000") for _ in range(2))
    for job in (removed, left):
        await_line(first, job, "line 1")
    end(first, signal.SIGKILL)
    subprocess.run(["docker", "rm", "--force", *containers(removed)], check=True)
    second = start_emulator(tmp_path / "state", runtime="docker")
    after = wait(second.client("sagemaker"), removed)
    assert after["FailureReason"].startswith("InternalServerError: ")
    assert second.client("sagemaker").describe_training_job(TrainingJobName=left)[
        "TrainingJobStatus"
    ] == ("InProgress")
    end(second, signal.SIGTERM)
    assert len(containers(left)) == 1
    third = start_emulator(tmp_path / "state", runtime="process")
    after = wait(third.client("sagemaker"), left)
    assert after["FailureReason"].startswith("InternalServerError: ")
    third.end()
    fourth = start_emulator(tmp_path / "state", runtime="docker")
    try:
        assert containers(left) == [], "what an ended job left is removed"
    finally:
        fourth.end()


def test_a_stop_reaches_a_job_that_was_taken_over(tmp_path: Path) -> None:
    first = start_emulator(tmp_path / "state", runtime="docker")
    script = "trap 'echo line 2; exit 0' TERM; echo 'line 1'; while :; do sleep 0.1; done"
    job = start_job(first, script)
    await_line(first, job, "line 1")
    end(first, signal.SIGKILL)
    second = start_emulator(tmp_path / "state", runtime="docker")
    try:
        second.client("sagemaker").stop_training_job(TrainingJobName=job)
        assert wait(second.client("sagemaker"), job)["TrainingJobStatus"] == "Stopped"
        assert counted(second, job, "algo-1") == ["line 1", "line 2"]
    finally:
        second.end()
