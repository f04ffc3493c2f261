"""The project's own commands against a running emulator."""

from __future__ import annotations

import json
import subprocess
import sys

from e2e_jobs import shell_request
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
    assert wrong.returncode == 1
    assert "ValidationException" in wrong.stderr
