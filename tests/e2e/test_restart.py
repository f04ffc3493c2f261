"""What is left of jobs, logs and objects when the emulator ends and starts again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import files_in_tar, log_lines, run, shell_request, wait, wait_for
from emulators import RunningEmulator, start_emulator


def processes_below(state_dir: Path) -> list[str]:
    """Command lines that name the state directory: sandboxes and the object store."""
    listing = subprocess.run(
        ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in listing.splitlines() if str(state_dir) in line]


def create_bucket(emulator: RunningEmulator) -> str:
    emulator.client("s3").create_bucket(Bucket="restart-bucket")
    return "restart-bucket"


def test_a_clean_restart_keeps_everything(tmp_path: Path) -> None:
    first = start_emulator(tmp_path / "state")
    bucket = create_bucket(first)
    before = run(
        first.client("sagemaker"), shell_request(bucket, "echo kept | tee /opt/ml/model/m")
    )
    name = before["TrainingJobName"]
    assert first.end() == 0
    assert processes_below(tmp_path / "state") == []
    second = start_emulator(tmp_path / "state")
    try:
        after = second.client("sagemaker").describe_training_job(TrainingJobName=name)
        for job in (before, after):
            del job["ResponseMetadata"]
        assert after == before
        assert log_lines(second.client("logs"), name)[-1] == "kept"
        model = before["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{bucket}/")
        assert second.client("s3").head_object(Bucket=bucket, Key=model)["ContentLength"] > 0
    finally:
        second.end()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_ran_when_the_emulator_ended_is_failed_not_lost(
    tmp_path: Path, how: signal.Signals
) -> None:
    first = start_emulator(tmp_path / "state")
    body = shell_request(create_bucket(first), "echo started; sleep 1000")
    name = body["TrainingJobName"]
    sagemaker: Any = first.client("sagemaker")
    sagemaker.create_training_job(**body)
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    while "started" not in log_lines(first.client("logs"), name):
        time.sleep(0.05)
    os.kill(first.process.pid, how)
    first.process.wait(120)
    deadline = time.monotonic() + 60
    while processes_below(tmp_path / "state"):
        assert time.monotonic() < deadline, processes_below(tmp_path / "state")
        time.sleep(0.05)
    second = start_emulator(tmp_path / "state")
    try:
        job = wait(second.client("sagemaker"), name)
        assert job["TrainingJobStatus"] == "Failed"
        assert job["FailureReason"].startswith("InternalServerError: ")
        assert "started" in log_lines(second.client("logs"), name)
    finally:
        second.end()


GOES_ON = (
    "echo started; while [ ! -e /opt/ml/output/enough ]; do sleep 0.1; done; "
    'python -c \'import boto3; print("reached:", '
    'len(boto3.client("s3").list_buckets()["Buckets"]))\'; '
    "echo trained | tee /opt/ml/model/m"
)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_trains_on_and_the_next_emulator_takes_it_up(
    tmp_path: Path, how: signal.Signals
) -> None:
    first = start_emulator(tmp_path / "state", leave=True)
    body = shell_request(create_bucket(first), GOES_ON, instances=2)
    name = body["TrainingJobName"]
    sagemaker: Any = first.client("sagemaker")
    sagemaker.create_training_job(**body)
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    for host in ("algo-1", "algo-2"):
        while "started" not in log_lines(first.client("logs"), name, host):
            time.sleep(0.05)
    os.kill(first.process.pid, how)
    first.process.wait(120)
    # Its port is another one: what the script was told must go on to work.
    second = start_emulator(tmp_path / "state", leave=True)
    try:
        job = second.client("sagemaker").describe_training_job(TrainingJobName=name)
        assert job["SecondaryStatus"] == "Training"
        for output in (tmp_path / "state").glob(f"jobs/*/*/{name}/algo-*/ml/output"):
            (output / "enough").touch()
        job = wait(second.client("sagemaker"), name)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        for host in ("algo-1", "algo-2"):
            lines = log_lines(second.client("logs"), name, host)
            assert lines.count("started") == 1
            assert lines[-2:] == ["reached: 1", "trained"]
        model = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://restart-bucket/")
        assert second.client("s3").head_object(Bucket="restart-bucket", Key=model)
    finally:
        second.end()
    assert processes_below(tmp_path / "state") == []
    assert not list((tmp_path / "state" / "supervised").iterdir())


def test_a_job_that_trained_on_can_be_stopped(tmp_path: Path) -> None:
    first = start_emulator(tmp_path / "state", leave=True)
    script = "trap 'echo asked; exit 0' TERM; echo started; while true; do sleep 0.05; done"
    body = shell_request(create_bucket(first), script)
    name = body["TrainingJobName"]
    first.client("sagemaker").create_training_job(**body)
    wait_for(first.client("sagemaker"), name, lambda job: job["SecondaryStatus"] == "Training")
    while "started" not in log_lines(first.client("logs"), name):
        time.sleep(0.05)
    first.process.kill()
    first.process.wait(60)
    second = start_emulator(tmp_path / "state", leave=True)
    try:
        second.client("sagemaker").stop_training_job(TrainingJobName=name)
        job = wait(second.client("sagemaker"), name)
        assert job["TrainingJobStatus"] == "Stopped"
        lines = log_lines(second.client("logs"), name)
        assert [line for line in lines if line in ("started", "asked")] == ["started", "asked"]
    finally:
        second.end()
    assert processes_below(tmp_path / "state") == []


def test_a_job_whose_time_is_up_while_no_emulator_runs(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("stop_grace_seconds = 0.5\n")
    first = start_emulator(tmp_path / "state", "--config", str(config), leave=True)
    script = (
        "trap 'echo asked; exit 0' TERM; echo weights > /opt/ml/model/m; echo started; "
        "while true; do sleep 0.05; done"
    )
    limit = {"MaxRuntimeInSeconds": 4}
    body = shell_request(create_bucket(first), script, StoppingCondition=limit)
    name = body["TrainingJobName"]
    first.client("sagemaker").create_training_job(**body)
    while "started" not in log_lines(first.client("logs"), name):
        time.sleep(0.05)
    first.process.kill()
    first.process.wait(60)
    deadline = time.monotonic() + 60
    while processes_below(tmp_path / "state"):  # the supervising process ends it
        assert time.monotonic() < deadline, processes_below(tmp_path / "state")
        time.sleep(0.1)
    second = start_emulator(tmp_path / "state", "--config", str(config), leave=True)
    try:
        job = wait(second.client("sagemaker"), name)
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == (
            "Stopped",
            "MaxRuntimeExceeded",
        )
        lines = log_lines(second.client("logs"), name)
        assert [line for line in lines if line in ("started", "asked")] == ["started", "asked"]
        model = job["ModelArtifacts"]["S3ModelArtifacts"]
        assert files_in_tar(second.client("s3"), model) == {"m": b"weights\n"}
    finally:
        second.end()


def test_two_emulators_do_not_share_a_state_directory(tmp_path: Path) -> None:
    first = start_emulator(tmp_path / "state")
    try:
        with pytest.raises(AssertionError, match=r"(?i)already|in use|another"):
            start_emulator(tmp_path / "state")
    finally:
        first.end()
