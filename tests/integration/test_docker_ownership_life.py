"""What containers write as root, where the emulator is an ordinary user."""

from __future__ import annotations

import io
import logging
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from docker.client import DockerClient
from docker.errors import ImageNotFound
from docker_jobs import IMAGE

from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import inspect_engine
from emulator.drivers.images.resolution import Images
from emulator.model.plan import InstancePlan, JobPlan, Mount

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
USER = 12_345
"""Nobody in particular: root may give files to any."""


@pytest.fixture
def runtime(
    client: DockerClient, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerRuntime]:
    engine = replace(inspect_engine(client), foreign_root=True)
    runtime = DockerRuntime(client, engine, Images(client), port=4570, emulator=emulator)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: USER)
        patch.setattr(os, "getegid", lambda: USER)
        yield runtime
    runtime.clean()


def job(tmp_path: Path, *command: str, image: str = IMAGE) -> JobPlan:
    model = tmp_path / "model"
    model.mkdir()
    instance = InstancePlan(
        host="algo-1",
        image=image,
        entrypoint=command,
        arguments=(),
        environment={},
        mounts=(Mount(model, "/opt/ml/model"),),
        scratch=tmp_path / "algo-1",
    )
    return JobPlan(tmp_path.name, f"arn:{tmp_path.name}", (instance,))


def left(client: DockerClient, emulator: str) -> int:
    mine = {"label": f"sagemaker-emulator.emulator={emulator}"}
    containers = client.api.containers(all=True, filters=mine)
    return len(containers) + len(client.api.networks(filters=mine))


SAVE = "umask 077; mkdir /opt/ml/model/deep; echo w > /opt/ml/model/deep/weights"


def test_files_are_the_emulators_before_the_containers_are_removed(
    runtime: DockerRuntime, client: DockerClient, tmp_path: Path, emulator: str
) -> None:
    fleet = runtime.launch(job(tmp_path, "sh", "-c", SAVE), lambda *_: None)
    end = fleet.next_exit(60)
    assert end is not None
    assert end.code == 0
    weights = tmp_path / "model/deep/weights"
    assert weights.stat().st_uid == 0
    fleet.hand_over()
    assert (weights.stat().st_uid, weights.parent.stat().st_uid) == (USER, USER)
    assert left(client, emulator) == 2
    fleet.close()
    assert left(client, emulator) == 0


@pytest.fixture
def shell_less(client: DockerClient, tmp_path: Path) -> Iterator[str]:
    name = f"test/shell-less-{os.getpid()}:1"
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("nothing"))
    client.api.import_image_from_data(empty.getvalue(), repository=name.partition(":")[0], tag="1")
    yield name
    with suppress(ImageNotFound):
        client.api.remove_image(name, force=True)


def test_an_image_without_a_shell_leaves_no_container(
    runtime: DockerRuntime,
    client: DockerClient,
    tmp_path: Path,
    shell_less: str,
    caplog: pytest.LogCaptureFixture,
    emulator: str,
) -> None:
    fleet = runtime.launch(job(tmp_path, "/no/such", image=shell_less), lambda *_: None)
    end = fleet.next_exit(60)
    assert end is not None
    assert end.code == 127
    with caplog.at_level(logging.WARNING):
        fleet.close()
    assert "stays root's" in caplog.text
    assert left(client, emulator) == 0


def test_a_job_that_nobody_takes_over_is_ended_and_its_files_can_be_read(
    runtime: DockerRuntime, client: DockerClient, tmp_path: Path, emulator: str
) -> None:
    plan = job(tmp_path, "sh", "-c", f"{SAVE}; exec sleep 300")
    fleet = runtime.launch(plan, lambda *_: None)
    weights = tmp_path / "model/deep/weights"
    deadline = time.monotonic() + 60
    while not weights.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runtime.remove(plan.arn)
    assert weights.stat().st_uid == USER
    assert left(client, emulator) == 0
    fleet.close()
