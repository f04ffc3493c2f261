"""The whole stack of compose.yaml, with SeaweedFS for MinIO: a DDP job by boto3, end to end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from e2e_jobs import channel, files_in_tar, log_lines, run, script_request, wait, wait_for
from emulators import REPOSITORY, free_port

from emulator.data.objectstore.weed import find_program

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SERVER = "sagemaker-emulator/server:latest"
TRAIN = """
import os, sys
import torch, torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
others = [torch.zeros_like(weights) for _ in range(dist.get_world_size())]
dist.all_gather(others, weights)
assert all(torch.equal(weights, other) for other in others)
data = {name: open(f"/opt/ml/input/data/{name}/numbers.csv").read() for name in ("train", "test")}
print(f"equal on {dist.get_world_size()} {data}")
if dist.get_rank() == 0:
    torch.save(model.module.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pt"))
dist.barrier()
dist.destroy_process_group()
# Gloo's threads outlive the group, and abort where one of them wakes in an interpreter that ends.
sys.stdout.flush()
os._exit(0)
"""
PATIENT = """
import os, time, boto3
print("begun", flush=True)
while not os.path.exists("/opt/ml/output/enough"):
    time.sleep(0.1)
print(f"still reached: {[b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']]}")
"""
WGET = """#!/opt/emulator/bin/python
import sys, urllib.request
urllib.request.urlopen(sys.argv[-1], timeout=3)
"""


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    port: int
    compose: list[str]
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="emulator",
            aws_secret_access_key="emulator-secret",
        )

    def run(self, *command: str, timeout: float = 300) -> str:
        done = subprocess.run(
            [*self.compose, *command],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of the program that the embedded store uses: no registry is needed."""
    folder, tag = tmp_path_factory.mktemp("weed"), f"sagemaker-emulator-test/weed:{os.getpid()}"
    shutil.copy2(find_program(), folder / "weed")
    # What the health check calls; the real image has it.
    (folder / "wget").write_text(WGET)
    (folder / "wget").chmod(0o755)
    (folder / "Dockerfile").write_text(
        f'FROM {SERVER}\nCOPY weed wget /usr/local/bin/\nENTRYPOINT ["weed"]\n'
    )
    subprocess.run(["docker", "build", "-q", "-t", tag, folder], check=True, timeout=200)
    yield tag
    subprocess.run(["docker", "rmi", "--force", tag], check=False, capture_output=True)


@pytest.fixture(scope="module")
def stack(seaweed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    port, project = free_port(), f"stack{os.getpid()}"
    files = ("compose.yaml", "compose.seaweedfs.yaml")
    program = str(Path(sys.executable).parent / "docker-compose")
    state = tmp_path_factory.mktemp("stack") / "state"
    running = Stack(
        port,
        [program, "--project-name", project, *(w for f in files for w in ("--file", f))],
        {
            **os.environ,
            "PWD": str(REPOSITORY),
            "SEAWEEDFS_IMAGE": seaweed,
            "EMULATOR_STATE_DIR": str(state),
            "EMULATOR_PORT": str(port),
            "OBJECTS_PORT": str(free_port()),
        },
    )
    try:
        running.run("up", "--detach", "--wait", "--no-build", "--pull", "never")
        yield running
    finally:
        print(running.run("logs", "--no-color", "emulator"))
        running.run("down", "--volumes", "--timeout", "30")


def test_a_ddp_job_on_two_containers(stack: Stack) -> None:
    s3, sagemaker = stack.client("s3"), stack.client("sagemaker")
    s3.create_bucket(Bucket="stack")
    for name in ("train", "test"):
        s3.put_object(Bucket="stack", Key=f"data/{name}/numbers.csv", Body=f"{name}".encode())
    body = script_request(
        s3,
        "stack",
        {"train.py": TRAIN},
        instances=2,
        hyperparameters={"sagemaker_torch_distributed_enabled": True},
    )
    body["InputDataConfig"] = [
        channel("stack", "train"),
        # Nothing that the emulator's container mounts can be seen from its neighbours.
        channel("stack", "test", InputMode="FastFile"),
    ]
    job = run(sagemaker, body, timeout=400)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    lines = [
        line
        for host in ("algo-1", "algo-2")
        for line in log_lines(stack.client("logs"), job["TrainingJobName"], host)
    ]
    said = [line for line in lines if "equal on 2 {'train': 'train', 'test': 'test'}" in line]
    assert len(said) == 2, "\n".join(lines)
    assert set(files_in_tar(s3, job["ModelArtifacts"]["S3ModelArtifacts"])) == {"model.pt"}


def test_a_job_outlives_the_emulators_container(stack: Stack) -> None:
    s3, sagemaker = stack.client("s3"), stack.client("sagemaker")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
        s3.create_bucket(Bucket="stack")
    body = script_request(s3, "stack", {"train.py": PATIENT})
    sagemaker.create_training_job(**body)
    name = body["TrainingJobName"]
    wait_for_line(stack, name, "begun")
    stack.run("up", "--detach", "--wait", "--no-build", "--force-recreate", "emulator")
    (output,) = Path(stack.environment["EMULATOR_STATE_DIR"]).glob(
        f"jobs/*/*/{name}/algo-1/ml/output"
    )
    (output / "enough").touch()
    job = wait(stack.client("sagemaker"), name)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    lines = log_lines(stack.client("logs"), name)
    assert "still reached: ['stack']" in lines


def wait_for_line(stack: Stack, job: str, line: str) -> None:
    wait_for(stack.client("sagemaker"), job, lambda job: job["SecondaryStatus"] == "Training")
    deadline = time.monotonic() + 120
    while line not in log_lines(stack.client("logs"), job):
        assert time.monotonic() < deadline, line
        time.sleep(0.1)


def test_only_loopback_listens(stack: Stack) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.port}/_emulator/health") as answer:
        assert answer.status == 200
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    ours = [line for line in listening.splitlines() if f":{stack.port} " in line]
    assert ours
    assert all("127.0.0.1:" in line for line in ours)
