"""The project's own commands against a running emulator."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
from e2e_jobs import run as ended
from e2e_jobs import shell_request, wait_for
from e2e_processing import request, result
from e2e_processing import wait_for as processed
from emulators import RunningEmulator


def run(emulator: RunningEmulator, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator", *words, "--endpoint-url", emulator.url],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    return sorted(line for line in done.stdout.splitlines() if "│ line" in line)


def test_jobs_describe_logs_and_stop(emulator: RunningEmulator, bucket: str) -> None:
    sagemaker = emulator.client("sagemaker")
    # The first instance that fails ends the other one: each gets the time to say its lines.
    command = "for n in 1 2 3; do echo line $n; done; sleep 2; exit 3"
    body = shell_request(bucket, command, instances=2)
    name = body["TrainingJobName"]
    sagemaker.create_training_job(**body)

    followed = run(emulator, "logs", name, "--follow")
    assert followed.returncode == 1  # the job failed
    assert f"{name} Failed: AlgorithmError: , exit code: 3" in followed.stderr
    assert said(followed) == [f"algo-{host} │ line {n}" for host in (1, 2) for n in (1, 2, 3)]
    assert said(run(emulator, "logs", name, "--host", "algo-2")) == [
        f"algo-2 │ line {n}" for n in (1, 2, 3)
    ]

    described = json.loads(run(emulator, "describe", name).stdout)
    asked = sagemaker.describe_training_job(TrainingJobName=name)
    asked.pop("ResponseMetadata")
    assert described.keys() == asked.keys()
    assert described["CreationTime"] == asked["CreationTime"].isoformat()

    newest, *_ = json.loads(run(emulator, "jobs", "--json", "--limit", "1").stdout)
    assert newest["TrainingJobName"] == name
    assert name in run(emulator, "jobs", "--status", "Failed").stdout

    body = shell_request(bucket, "trap 'exit 0' TERM; sleep 300 & wait")
    sagemaker.create_training_job(**body)
    stopped = run(emulator, "stop", body["TrainingJobName"], "--wait")
    assert stopped.stdout == f"{body['TrainingJobName']}: Stopped\n"

    for words in (("describe", "nobody"), ("stop", "nobody"), ("logs", "nobody")):
        absent = run(emulator, *words)
        assert absent.returncode == 1
        assert "there is no training job nobody" in absent.stderr
    wrong = run(emulator, "jobs", "--status", "Lost")
    assert wrong.returncode == 2
    assert "There are: InProgress, Completed, Failed, Stopping, Stopped." in wrong.stderr
    absent = run(emulator, "logs", name, "--host", "algo-7")
    assert absent.returncode == 1
    assert "has no instance algo-7. It has: algo-1, algo-2." in absent.stderr


def test_a_job_that_does_not_want_to_end_is_killed_at_once(
    emulator: RunningEmulator, bucket: str
) -> None:
    sagemaker, command = emulator.client("sagemaker"), "trap '' TERM; echo kept > /opt/ml/model/m; "
    body = shell_request(bucket, f"{command} while true; do sleep 1; done")
    sagemaker.create_training_job(**body)
    name = body["TrainingJobName"]
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    stopped = run(emulator, "stop", name, "--now", "--wait")  # the grace alone is longer than this
    assert stopped.stdout == f"{name}: Stopped\n", stopped.stderr
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert (job["TrainingEndTime"] - job["TrainingStartTime"]).total_seconds() < 100


def test_artifacts_and_delete(emulator: RunningEmulator, bucket: str, tmp_path: Path) -> None:
    command = (
        "echo m > /opt/ml/model/m; mkdir /opt/ml/output/data/d; echo o > /opt/ml/output/data/d/o"
    )
    name = ended(emulator.client("sagemaker"), shell_request(bucket, command))["TrainingJobName"]
    got = run(emulator, "artifacts", name, str(tmp_path / "got"))
    assert got.stdout.splitlines() == [str(tmp_path / "got" / n) for n in ("model", "output")]
    assert (tmp_path / "got/model/m").read_text() == "m\n"
    assert (tmp_path / "got/output/d/o").read_text() == "o\n"
    run(emulator, "artifacts", name, str(tmp_path / "packed"), "--packed")
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {
        *("model.tar.gz", "output.tar.gz"),
    }
    assert run(emulator, "delete", name).stdout == f"{name}: deleted\n"
    absent = run(emulator, "artifacts", name)
    assert absent.returncode == 1
    assert f"there is no training job {name}" in absent.stderr


def test_artifacts_of_a_processing_job(
    emulator: RunningEmulator, bucket: str, tmp_path: Path
) -> None:
    command = "for n in a b; do echo $n > /opt/ml/processing/$n/file; done"
    prefix = uuid.uuid4().hex
    results = [result(bucket, name, name) for name in ("a", "b")]
    results[0]["S3Output"]["S3Uri"] = f"s3://{bucket}/{prefix}/deep/"
    body = request(command, *results)
    sagemaker, name = emulator.client("sagemaker"), body["ProcessingJobName"]
    sagemaker.create_processing_job(**body)
    processed(sagemaker, name, lambda job: job["ProcessingJobStatus"] == "Completed")
    run(emulator, "artifacts", name, str(tmp_path))
    assert [(tmp_path / n / "file").read_text() for n in ("a", "b")] == ["a\n", "b\n"]


def test_health_counts_jobs_and_what_is_unknown_is_a_404(
    emulator: RunningEmulator, bucket: str
) -> None:
    def counted() -> dict[str, int]:
        with urllib.request.urlopen(f"{emulator.url}/_emulator/health", timeout=60) as answer:
            return dict(json.load(answer)["jobs"])

    sagemaker = emulator.client("sagemaker")
    body = shell_request(bucket, "trap exit TERM; while true; do sleep 0.1; done")
    sagemaker.create_training_job(**body)
    name = body["TrainingJobName"]
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    # Jobs that other tests have left are on the same emulator, and end meanwhile.
    during = counted()
    assert set(during) == {"running", "queued", "pending", "waiting_for_engine"}
    assert during["running"] >= 1
    run(emulator, "stop", name, "--wait")
    assert counted()["running"] < during["running"]
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{emulator.url}/_emulator/nothing", timeout=60)
    assert error.value.code == 404
    assert json.load(error.value) == {"detail": "There is no /_emulator/nothing."}
