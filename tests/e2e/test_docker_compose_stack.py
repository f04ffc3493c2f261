"""The whole stack of compose.yaml, with SeaweedFS for MinIO: a DDP job by boto3, end to end."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
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

SERVER = os.environ.get("SERVER_IMAGE", "sagemaker-emulator/server:latest")
OWNER = 12345
"""The user to whom the project's folder belongs."""
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
    project: Path
    """The folder of compose.yaml."""
    compose: list[str]
    environment: dict[str, str]

    @property
    def state(self) -> Path:
        return self.project / ".sagemaker-emulator"

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
            # Whoever starts it may be elsewhere.
            cwd="/",
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
    port, name = free_port(), f"stack{os.getpid()}"
    folder = tmp_path_factory.mktemp("stack")
    command = [str(Path(sys.executable).parent / "docker-compose"), "--project-name", name]
    for file in ("compose.yaml", "compose.seaweedfs.yaml"):
        shutil.copy2(REPOSITORY / file, folder)
        command += ["--file", str(folder / file)]
    os.chown(folder, OWNER, OWNER)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMULATOR_", "AWS_"))}
    running = Stack(
        port,
        folder,
        command,
        {
            **environment,
            "PWD": "/",
            "SEAWEEDFS_IMAGE": seaweed,
            "EMULATOR_PORT": str(port),
            "EMULATOR_PROXY_PORT": str(free_port()),
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
    (output,) = stack.state.glob(f"jobs/*/*/{name}/algo-1/ml/output")
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


def test_a_shell_of_this_machine_finds_it_and_its_sts(stack: Stack) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "emulator", "env", "--state-dir", str(stack.state), "--json"],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr == ""
    exports = json.loads(found.stdout)
    assert exports["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{stack.port}"
    assert exports["SAGEMAKER_USER_CONFIG_OVERRIDE"].startswith(str(stack.state))
    code = """
import os, urllib.request
import boto3
print(boto3.client("sts", endpoint_url="https://sts.us-east-1.amazonaws.com").get_caller_identity()["Account"])
admin = urllib.request.Request(
    os.environ["AWS_ENDPOINT_URL"] + "/_emulator/gpus",
    headers={"Authorization": "Bearer " + os.environ["EMULATOR_ADMIN_TOKEN"]},
)
print(urllib.request.urlopen(admin).status)
"""
    script = [sys.executable, "-c", code]
    done = subprocess.run(
        script, env={**stack.environment, **exports}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["123456789012", "200"], done.stderr


def test_the_notebook_of_the_documents(stack: Stack) -> None:
    text = (REPOSITORY / "docs" / "docker.md").read_text()
    service = re.search(
        r"^```yaml\n(services:\n  notebook:.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert service
    recipe = re.sub("image: .*", "image: sagemaker-emulator/pytorch-training:cpu", service[1])
    recipe = re.sub("ports: .*", "ports: []", recipe)
    recipe = recipe.replace("4570", str(stack.port))
    recipe = recipe.replace("4571", stack.environment["EMULATOR_PROXY_PORT"])
    (stack.project / "notebook.yaml").write_text(recipe)
    code = """
import boto3, sagemaker
session = sagemaker.Session()
print(sagemaker.get_execution_role(), session.account_id(), session.default_bucket())
print("buckets", len(boto3.client("s3").list_buckets()["Buckets"]) > 0)
"""
    said = subprocess.run(
        [
            *stack.compose,
            *("--file", str(stack.project / "notebook.yaml")),
            # Jupyter's images run as this user.
            *("run", "--rm", "-T", "--no-deps", "--user", "1000:100", "--env", "HOME=/tmp"),
            *("notebook", "python", "-c", code),
        ],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "arn:aws:iam::123456789012:role/SageMakerRole 123456789012 sagemaker-" in said.stdout, (
        f"{said.stdout}\n{said.stderr}"
    )
    assert "buckets True" in said.stdout


def test_the_proxy_leads_nobody_to_the_emulators_own_machine(stack: Stack) -> None:
    """There the endpoint takes loopback connections for its user's."""
    proxy = int(stack.environment["EMULATOR_PROXY_PORT"])
    for target in ("127.0.0.1", "localhost", "emulator"):
        with socket.create_connection(("127.0.0.1", proxy), timeout=30) as connection:
            connection.sendall(f"CONNECT {target}:{stack.port} HTTP/1.1\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 502"), target


def test_its_files_belong_to_whom_the_folder_belongs(stack: Stack) -> None:
    owners = {path.stat().st_uid for path in (stack.state, *stack.state.iterdir())}
    assert owners == {OWNER}
    jobs = stack.state / "jobs"
    assert {path.lstat().st_uid for path in jobs.rglob("*")} <= {OWNER}
    assert "KIND" in stack.run("exec", "-T", "emulator", "sagemaker-emulator", "jobs")
