"""An emulator that starts before its engine, or outlives it: nothing is lost or given twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from e2e_jobs import log_lines, shell_request, wait, wait_for
from emulators import RunningEmulator, start_emulator
from engine_door import EngineDoor

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

BUCKET = "away-bucket"
ON_ONE_GPU = {"ResourceConfig": {"InstanceType": "ml.g4dn.xlarge", "VolumeSizeInGB": 1}}
COUNTING = (
    'i=0; until [ -e /opt/ml/output/enough ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done'
)
CREATED: list[str] = []
UNTIL_STOPPED = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineDoor]:
    # The path of a socket has at most 107 characters.
    door = EngineDoor(tmp_path_factory.mktemp("d") / "s")
    door.open()
    yield door
    door.close()


@pytest.fixture
def start(
    tmp_path: Path, door: EngineDoor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], RunningEmulator]]:
    """Emulators with two GPUs that only stand for some, on one state directory."""
    inventory = tmp_path / "gpus.json"
    gpus = [{"uuid": f"GPU-{n}", "name": "T4", "memory_mib": 15360} for n in range(2)]
    inventory.write_text(json.dumps({"gpus": gpus}))
    config = tmp_path / "config.toml"
    config.write_text(f'gpu_inventory = "{inventory}"')
    running: list[RunningEmulator] = []

    def start() -> RunningEmulator:
        with monkeypatch.context() as patched:
            patched.setenv("DOCKER_HOST", door.url)
            flags = ("--config", str(config))
            running.append(start_emulator(tmp_path / "state", *flags, runtime="auto"))
        return running[-1]

    yield start
    if running and running[-1].process.poll() is None:
        end(running[-1])
    for job in CREATED:  # there is nothing left of them, unless a test has failed
        for what in left_of(job):
            for remove in (["docker", "rm", "--force"], ["docker", "network", "rm"]):
                subprocess.run([*remove, what], capture_output=True, check=False)


def end(emulator: RunningEmulator) -> None:
    os.kill(emulator.process.pid, signal.SIGKILL)
    emulator.process.wait(60)


def create(emulator: RunningEmulator, command: str, **more: Any) -> str:
    body = shell_request(BUCKET, command, **{**ON_ONE_GPU, **more})
    emulator.client("sagemaker").create_training_job(**body)
    CREATED.append(str(body["TrainingJobName"]))
    return CREATED[-1]


def await_line(emulator: RunningEmulator, job: str, line: str) -> None:
    wait_for(emulator.client("sagemaker"), job, lambda job: job["SecondaryStatus"] == "Training")
    deadline = time.monotonic() + 60
    while line not in log_lines(emulator.client("logs"), job):
        assert time.monotonic() < deadline, line
        time.sleep(0.1)


def left_of(job: str) -> list[str]:
    """Its containers and networks, asked of the engine itself."""
    label = ["--quiet", "--filter", f"label=sagemaker-emulator.training-job={job}"]
    asked = (["docker", "ps", "--all", *label], ["docker", "network", "ls", *label])
    answers = [subprocess.check_output(command, text=True).split() for command in asked]
    return answers[0] + answers[1]


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def page(emulator: RunningEmulator, name: str) -> Any:
    with urlopen(f"{emulator.url}/_emulator/{name}", timeout=20) as answer:
        return json.load(answer)


def runtime_of(logs: Any, job: str) -> str:
    """As the job's log tells it."""
    [told] = [line for line in log_lines(logs, job) if line.startswith("Runtime ")]
    return told.removeprefix("Runtime ").split(":")[0]


def test_an_engine_that_comes_after_the_emulator(
    door: EngineDoor, start: Callable[[], RunningEmulator], tmp_path: Path
) -> None:
    first = start()
    first.client("s3").create_bucket(Bucket=BUCKET)
    counting = create(first, COUNTING)
    gone = create(first, UNTIL_STOPPED, RetryStrategy={"MaximumRetryAttempts": 1})
    for job, line in ((counting, "line 20"), (gone, "ready")):
        await_line(first, job, line)
    queued = create(first, "echo queued")
    end(first)
    door.close()
    [container, _] = left_of(gone)
    subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)

    second = start()
    sagemaker, logs = second.client("sagemaker"), second.client("logs")
    said = page(second, "health")
    assert said["engine_away"]
    assert said["jobs"]["waiting_for_engine"] == 3
    asked = [sys.executable, "-m", "emulator", "doctor", "--port", second.url.rpartition(":")[2]]
    doctor = subprocess.run(
        asked,
        env={**os.environ, "DOCKER_HOST": door.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 jobs of the emulator wait for it" in " ".join(doctor.stdout.split())
    assert doctor.returncode == 1
    assert "once an engine answers" in said["runtime"]["reason"]
    for job in (counting, gone, queued):
        assert sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"] == (
            "InProgress"
        )
    assert {gpu["job"] for gpu in page(second, "gpus")["gpus"]} == {counting, gone}
    assert len(list((tmp_path / "state" / "jobs").glob("*/*/*"))) >= 2
    # Without the engine, auto takes new jobs for processes; they wait for GPUs as all do.
    on_cpu = create(
        second, "echo here", ResourceConfig={"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    )
    assert wait(sagemaker, on_cpu)["TrainingJobStatus"] == "Completed"
    assert runtime_of(logs, on_cpu) == "process"
    assert sagemaker.describe_training_job(TrainingJobName=queued)["SecondaryStatus"] == "Pending"

    door.open()
    eventually(lambda: page(second, "health")["engine_away"] == "", "the engine is found")
    await_line(second, gone, "ready")
    for folder in (tmp_path / "state" / "jobs").glob(f"*/*/{counting}/algo-*/ml/output"):
        (folder / "enough").touch()
    assert wait(sagemaker, counting)["TrainingJobStatus"] == "Completed"
    lines = [line for line in log_lines(logs, counting) if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert wait(sagemaker, queued)["TrainingJobStatus"] == "Completed"
    assert runtime_of(logs, queued) == "docker"
    late = create(second, "echo late")
    assert wait(sagemaker, late)["TrainingJobStatus"] == "Completed"
    assert runtime_of(logs, late) == "docker"
    # Its containers were gone: it was tried again, as it asked for.
    tried = sagemaker.describe_training_job(TrainingJobName=gone)
    assert [entry["Status"] for entry in tried["SecondaryStatusTransitions"]].count("Starting") == 2
    sagemaker.stop_training_job(TrainingJobName=gone)
    wait(sagemaker, gone)
    eventually(lambda: not any(map(left_of, (counting, gone, queued, late))), "all is removed")


def test_a_stop_is_carried_out_when_the_engine_is_back(
    door: EngineDoor, start: Callable[[], RunningEmulator]
) -> None:
    emulator = start()
    emulator.client("s3").create_bucket(Bucket=BUCKET)
    sagemaker, logs = emulator.client("sagemaker"), emulator.client("logs")
    stopped, after_restart = (create(emulator, UNTIL_STOPPED) for _ in range(2))
    for job in (stopped, after_restart):
        await_line(emulator, job, "ready")
    door.close()
    sagemaker.stop_training_job(TrainingJobName=stopped)
    wait_for(sagemaker, stopped, lambda job: job["SecondaryStatus"] == "Stopping")
    assert len(left_of(stopped)) == 2
    assert {gpu["job"] for gpu in page(emulator, "gpus")["gpus"]} == {stopped, after_restart}
    door.open()
    assert wait(sagemaker, stopped)["TrainingJobStatus"] == "Stopped"
    assert log_lines(logs, stopped)[-1] == "told"
    eventually(lambda: not left_of(stopped), "nothing stays in the engine")

    door.close()
    sagemaker.stop_training_job(TrainingJobName=after_restart)
    wait_for(sagemaker, after_restart, lambda job: job["SecondaryStatus"] == "Stopping")
    assert emulator.end(60) == 0, "an engine that is away does not hold the emulator up"
    again = start()
    assert len(left_of(after_restart)) == 2
    door.open()
    assert wait(again.client("sagemaker"), after_restart)["TrainingJobStatus"] == "Stopped"
    assert log_lines(again.client("logs"), after_restart)[-1] == "told"
    eventually(lambda: not left_of(after_restart), "nothing stays in the engine")
