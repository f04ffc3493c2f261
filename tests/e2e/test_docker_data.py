"""Input data of every mode in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import channel, log_lines, run, shell_request
from emulators import start_emulator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


def test_files_pipes_and_mounts_in_containers(tmp_path: Path) -> None:
    emulator = start_emulator(tmp_path / "state", runtime="docker")
    try:
        s3, logs = emulator.client("s3"), emulator.client("logs")
        s3.create_bucket(Bucket="docker-data")
        for key in ("train/a", "train/sub/b"):
            s3.put_object(Bucket="docker-data", Key=key, Body=f"{key}\n".encode())
        for modes in (("File", "Pipe"), ("File", "FastFile")):
            lines = train(emulator, logs, modes)
            for host, found in lines.items():
                assert found[-6:] == [
                    f"changed by {host}",
                    "train/sub/b",
                    "new",
                    "train/a",
                    "train/sub/b",
                    "done",
                ]
    finally:
        emulator.end()


def train(emulator: Any, logs: Any, modes: tuple[str, str]) -> dict[str, list[str]]:
    other = "other_0" if modes[1] == "Pipe" else "other/a other/sub/b"
    body = shell_request(
        "docker-data",
        "set -e; cd /opt/ml/input/data; echo changed by $(hostname) > train/a; "
        f"echo new > train/c; sleep 1; cat train/a train/sub/b train/c; cat {other}; echo done",
        instances=2,
        InputDataConfig=[
            channel("docker-data", "train", "train", InputMode=modes[0]),
            channel("docker-data", "other", "train", InputMode=modes[1]),
        ],
    )
    job = run(emulator.client("sagemaker"), body)
    if "FUSE" in job.get("FailureReason", ""):
        pytest.skip(job["FailureReason"])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    return {host: log_lines(logs, job["TrainingJobName"], host) for host in ("algo-1", "algo-2")}
