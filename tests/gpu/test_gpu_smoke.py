"""Jobs on real GPUs, for a workstation or a GPU runner: `make test-gpu`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import channel, files_in_tar, log_lines, run, shell_request, wait_for
from emulators import RunningEmulator

from emulator.placement.device import Gpu

BUCKET = "gpu-tests"

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]


def train(emulator: RunningEmulator, script: str, instances: int = 1, **more: Any) -> Any:
    command = f"python3 /opt/ml/input/data/code/{script}"
    body = shell_request(
        BUCKET, command, instances, InputDataConfig=[channel(BUCKET, "code", "code/")], **more
    )
    body["ResourceConfig"]["InstanceType"] = "ml.local.1gpu"
    answer = run(emulator.client("sagemaker"), body, timeout=600)
    told = log_lines(emulator.client("logs"), body["TrainingJobName"])
    assert answer["TrainingJobStatus"] == "Completed", "\n".join(told[-50:])
    return answer


def values(emulator: RunningEmulator, job: str, name: str, instances: int) -> list[str]:
    """What each instance printed as name=value."""
    logs, pattern = emulator.client("logs"), re.compile(rf"\b{name}=(\S+)")
    hosts = [f"algo-{number}" for number in range(1, instances + 1)]
    texts = ["\n".join(log_lines(logs, job, host)) for host in hosts]
    return [match[1] for text in texts if (match := pattern.search(text))]


def holders(emulator: RunningEmulator) -> set[str | None]:
    """Jobs that hold a GPU, and None if one is free."""
    with urllib.request.urlopen(f"{emulator.url}/_emulator/gpus", timeout=5) as page:
        return {gpu["job"] for gpu in json.load(page)["gpus"]}


def test_one_instance_trains_on_its_gpu(start: Any) -> None:
    emulator = start()
    answer = train(emulator, "train_cuda.py")
    name = answer["TrainingJobName"]
    assert values(emulator, name, "devices", 1) == ["1"]
    assert values(emulator, name, "listed", 1) == ["1"], "launchers start a process for each"
    assert float(values(emulator, name, "loss", 1)[0]) < 1e-3
    model = files_in_tar(emulator.client("s3"), answer["ModelArtifacts"]["S3ModelArtifacts"])
    assert model["model.pth"]
    # Given back last of all, when the job's end can be seen already.
    wait_for(emulator.client("sagemaker"), name, lambda _: holders(emulator) == {None})


def test_two_instances_share_one_gpu_through_nccl(start: Any) -> None:
    emulator = start(gpu_policy="shared")
    name = train(emulator, "train_ddp.py", instances=2)["TrainingJobName"]
    assert len(set(values(emulator, name, "gpu", 2))) == 1
    models = values(emulator, name, "model", 2)
    assert len(models) == 2
    assert models[0] == models[1]
    told = log_lines(emulator.client("logs"), name)
    assert "NCCL: algo-1 and algo-2 talk through sockets (NET)." in told


@pytest.mark.parametrize("preset", ["network", "shm", "fast"])
def test_two_instances_with_a_gpu_each(start: Any, gpus: tuple[Gpu, ...], preset: str) -> None:
    if len(gpus) < 2:
        pytest.skip("this machine has one GPU")
    emulator = start(nccl_preset=preset)
    name = train(emulator, "train_ddp.py", instances=2)["TrainingJobName"]
    assert len(set(values(emulator, name, "gpu", 2))) == 2
    models = values(emulator, name, "model", 2)
    assert len(models) == 2
    assert models[0] == models[1]
    told = log_lines(emulator.client("logs"), name)
    assert [line for line in told if line.startswith("NCCL: algo-1 and algo-2 talk through ")]
    assert not [line for line in told if line.startswith("WARNING: the NCCL preset")]


def test_the_doctor_measures_every_preset(gpus: tuple[Gpu, ...], tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('runtime = "process"\nport = 0\n')
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "doctor", "--gpu-test", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    presets = ["shared-gpu"] if len(gpus) == 1 else ["network", "shm", "fast", "plain processes"]
    assert re.findall(r"ok  (\S.*?) +[\d.]+ GB/s", done.stdout) == presets
