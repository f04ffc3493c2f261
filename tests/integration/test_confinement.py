"""A sandbox lets a job see and do no more than a Docker container with the engine's defaults."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confinement import MASKED, SECRETS, SHOWN, in_sandbox, probe_command
from test_process_ordinary_user import SOMEBODY, as_somebody, readable_python

from emulator.drivers.docker.engine import connect

HERE = Path(__file__).parent
IMAGE = "sagemaker-emulator/pytorch-training:cpu"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has a directory to hide things in, and two users to ask"
)


@pytest.fixture(scope="module", params=["root", "an ordinary user"])
def user(request: pytest.FixtureRequest) -> int:
    return {"root": 0, "an ordinary user": SOMEBODY}[request.param]


@pytest.fixture(scope="module")
def place(user: int) -> Iterator[Path]:
    """Where nothing of a sandbox's own lies above: it has its own /tmp."""
    with tempfile.TemporaryDirectory(prefix="confinement-", dir="/opt") as directory:
        os.chown(directory, user, user)
        yield Path(directory)


@pytest.fixture(scope="module")
def sandbox(user: int, place: Path) -> dict[str, Any]:
    if user == 0:
        return in_sandbox(place)
    where = [str(HERE), str(HERE.parents[1])]
    script = (
        f"import json, pathlib, sys; sys.path[:0] = {where}; import confinement; "
        "print(json.dumps(confinement.in_sandbox(pathlib.Path(sys.argv[1]))))"
    )
    done = as_somebody(place, readable_python(place), "-c", script, str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def container(user: int) -> dict[str, Any]:
    with closing(connect()) as client:
        answer = client.containers.run(
            IMAGE,
            probe_command("python", *MASKED),
            entrypoint=[],
            user=str(user),
            remove=True,
        )
    answers: dict[str, Any] = json.loads(answer)
    return answers


@pytest.mark.docker
def test_no_more_than_a_container(
    user: int, sandbox: dict[str, Any], container: dict[str, Any]
) -> None:
    for name in ("CapPrm", "CapEff") if user else ("CapPrm", "CapEff", "CapBnd"):
        extra = sandbox["capabilities"][name] & ~container["capabilities"][name]
        assert extra == 0, f"{name} has {extra:#x} beside a container's"
    for what in ("devices", "writable"):
        assert set(sandbox[what]) <= set(container[what]), what
    assert set(container["refused"]) <= set(sandbox["refused"])
    assert len(container["refused"]) > 20
    masked = set(MASKED)
    assert masked & set(sandbox["with_content"]) <= masked & set(container["with_content"])


def test_nothing_can_gain_rights_there(user: int, sandbox: dict[str, Any]) -> None:
    assert sandbox["no_new_privileges"] == 1
    assert not [path for path in sandbox["writable"] if path.startswith(("/proc/sys/", "/sys/"))]
    assert {"unshare", "mount", "setns", "bpf", "keyctl", "clone3"} <= set(sandbox["refused"])
    if user:
        assert sandbox["capabilities"]["CapEff"] == 0


def test_the_state_and_credentials_are_not_to_be_read(place: Path, sandbox: dict[str, Any]) -> None:
    readable = set(sandbox["with_content"])
    assert readable & {str(place / name) for name in (*SECRETS, *SHOWN)} == {
        str(place / name) for name in SHOWN
    }
    assert "/etc/shadow" not in readable
