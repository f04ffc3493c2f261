"""What stays in the engine between the jobs of a warm pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient
from docker_jobs import Output, plan_of, runtime_on

from emulator.drivers.docker.driver import DockerRuntime
from emulator.model.plan import JobPlan

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

TALK = """
import os, socket, sys
print("I am", socket.gethostname(), socket.gethostbyname(socket.gethostname()))
other = {"algo-1": "algo-2", "algo-2": "algo-1"}[socket.gethostname()]
server = socket.create_server(("", 7777), reuse_port=False)
import time
deadline = time.monotonic() + 60
while True:
    try:
        socket.create_connection((other, 7777)).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
server.accept()
print("way to the emulator:", "host.docker.internal" in open("/etc/hosts").read())
print("left by the one before:", os.path.exists("/tmp/mine"))
open("/tmp/mine", "w").close()
"""


@pytest.fixture
def runtime(client: DockerClient, emulator: str) -> Iterator[DockerRuntime]:
    runtime = runtime_on(client, emulator)
    yield runtime
    runtime.clean()
    assert standing(client, emulator) == ([], [])


def standing(client: DockerClient, emulator: str) -> tuple[list[str], list[str]]:
    """Ids of containers and networks there are of an emulator."""
    mine = {"label": f"sagemaker-emulator.emulator={emulator}"}
    return (
        sorted(found["Id"] for found in client.api.containers(filters=mine)),
        sorted(found["Id"] for found in client.api.networks(filters=mine)),
    )


def pooled(tmp_path: Path, job: str, *scripts: str, **changes: Any) -> JobPlan:
    (tmp_path / job).mkdir()
    return replace(plan_of(tmp_path / job, *scripts), pool="5a1e", **changes)


def run(runtime: DockerRuntime, plan: JobPlan) -> dict[str, list[str]]:
    output = Output()
    fleet = runtime.launch(plan, output)
    try:
        ends = [fleet.next_exit(90) for _ in plan.hosts]
    finally:
        fleet.close()
    assert [end and end.code for end in ends] == [0] * len(ends), output
    return {host: text.splitlines() for host, text in output.items()}


def talk() -> tuple[str, str]:
    command = f"exec python -c '{TALK}'"
    return command, command


@pytest.mark.parametrize("isolated", [False, True])
def test_a_pools_jobs_share_places_and_nothing_else(
    client: DockerClient, runtime: DockerRuntime, tmp_path: Path, isolated: bool, emulator: str
) -> None:
    first = run(runtime, pooled(tmp_path, "one", *talk(), network_isolation=isolated))
    kept = standing(client, emulator)
    assert [len(part) for part in kept] == [2, 1]
    second = run(runtime, pooled(tmp_path, "two", *talk(), network_isolation=isolated))
    assert first == second, "names and addresses stay, files do not"
    name, way, files = first["algo-1"]
    assert name.startswith("I am algo-1 ")
    assert way == f"way to the emulator: {not isolated}"
    assert files == "left by the one before: False"
    assert standing(client, emulator) == kept
    runtime.release("5a1e")
    assert standing(client, emulator) == ([], [])


def test_places_that_were_removed_are_made_anew(
    client: DockerClient, runtime: DockerRuntime, tmp_path: Path, emulator: str
) -> None:
    run(runtime, pooled(tmp_path, "one", *talk()))
    before, _ = standing(client, emulator)
    client.api.remove_container(before[0], force=True)
    run(runtime, pooled(tmp_path, "two", *talk()))
    after, _ = standing(client, emulator)
    assert len(after) == 2
    assert not set(before) & set(after)


def test_a_restart_keeps_the_places_that_a_job_is_in(
    client: DockerClient, runtime: DockerRuntime, tmp_path: Path, emulator: str
) -> None:
    run(runtime, replace(pooled(tmp_path, "idle", "true"), pool="1d1e"))
    running = pooled(tmp_path, "one", "echo ready; while [ ! -e /tmp/end ]; do sleep 0.05; done")
    output = Output()
    runtime.launch(running, output).leave()
    again = runtime_on(client, emulator)
    again.clean(keep=[running.arn])
    containers, networks = standing(client, emulator)
    assert (len(containers), len(networks)) == (2, 1), "one keeper, one job's container"
    fleet = again.adopt(running.arn, output)
    assert fleet is not None
    output.await_text("ready")
    fleet.kill()
    end = fleet.next_exit(60)
    assert (end and end.code) == 137
    fleet.close()
    assert len(standing(client, emulator)[0]) == 1
    again.clean()
    assert standing(client, emulator) == ([], [])
