"""The image for inference, run by hand as any container that serves."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.docker
IMAGE = "sagemaker-emulator/pytorch-inference:cpu"
CODE = """
import os
import torch

def model_fn(model_dir):
    return torch.jit.load(os.path.join(model_dir, "net.pt"))

def transform_fn(model, body, content_type, accept, context):
    if content_type == "text/plain":
        open("/opt/ml/model/begun", "w").close()
        while not os.path.exists("/opt/ml/model/go"):
            pass
        return "finished"
    import json
    return json.dumps(model(torch.tensor(json.loads(body))).tolist())
"""


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return (done.stdout if check else done.stdout + done.stderr).strip()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(CODE)
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(str(tmp_path / "net.pt"))
    return tmp_path


@pytest.fixture
def container(model: Path) -> Iterator[str]:
    # Copied, not mounted: these tests may run beside an engine that sees other directories.
    name = f"serving-image-{uuid.uuid4().hex[:8]}"
    docker("create", "--name", name, "--publish", "127.0.0.1::8080", IMAGE, "serve")
    try:
        docker("cp", f"{model}/.", f"{name}:/opt/ml/model")
        docker("start", name)
        yield name
    finally:
        docker("rm", "--force", name)


def connect(container: str) -> HTTPConnection:
    """A connection to the server, once it has loaded the model."""
    host, _, port = docker("port", container, "8080").splitlines()[0].rpartition(":")
    deadline = time.monotonic() + 120
    while (
        time.monotonic() < deadline
        and docker("inspect", "-f", "{{.State.Running}}", container) == "true"
    ):
        connection = HTTPConnection(host, int(port), timeout=60)
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().read() == b"":
                return connection
        except (ConnectionError, RemoteDisconnected):
            connection.close()
            time.sleep(0.2)
    raise AssertionError(docker("logs", container, check=False))


def test_model_is_served_and_sigterm_finishes_its_request(container: str) -> None:
    connection = connect(container)
    connection.request("POST", "/invocations", b"[-1.0, 2.0]", {"Content-Type": "application/json"})
    assert json.loads(connection.getresponse().read()) == [0.0, 2.0]

    connection.request("POST", "/invocations", b"", {"Content-Type": "text/plain"})
    while docker("exec", container, "ls", "/opt/ml/model").count("begun") == 0:
        time.sleep(0.1)
    stop = subprocess.Popen(["docker", "stop", "--time", "60", container])
    docker("exec", container, "touch", "/opt/ml/model/go")
    assert connection.getresponse().read() == b"finished"
    assert stop.wait(60) == 0
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"


def test_image_trains_as_well() -> None:
    assert docker("run", "--rm", IMAGE, "sh", "-c", "command -v train").endswith("/train")
    assert docker("inspect", "-f", "{{json .Config.Cmd}}", IMAGE) == '["serve"]'
