"""What the contract suites are run against: add a runtime or a store here."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from channel_harness import Stager
from runtime_harness import Launch, Next, Output, Run, instance_mounts, made

from emulator.data.objectstore.objects import ObjectStore
from emulator.drivers.base import Runtime
from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import connect, inspect_engine
from emulator.drivers.images.resolution import Images
from emulator.drivers.process.driver import ProcessRuntime
from emulator.model.plan import InstancePlan, JobPlan, Mount

TRAINING_IMAGE = "sagemaker-emulator/pytorch-training:cpu"


@pytest.fixture
def process_runtimes(tmp_path: Path) -> Next:
    return lambda: ProcessRuntime(Path(sys.executable), "http://127.0.0.1:4570", tmp_path)


@pytest.fixture(scope="session")
def docker_runtimes() -> Iterator[Next]:
    # Other runs of the tests may use the same engine.
    emulator = f"contract-{uuid.uuid4().hex[:12]}"
    with closing(connect()) as client:
        images = Images(client, {"train": TRAINING_IMAGE})
        yield lambda: DockerRuntime(
            client, inspect_engine(client), images, port=4570, emulator=emulator
        )


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def next_runtime(request: pytest.FixtureRequest) -> Next:
    """Makes a runtime as the next emulator of this state directory would."""
    make: Next = request.getfixturevalue(f"{request.param}_runtimes")
    return make


@pytest.fixture
def runtime(next_runtime: Next) -> Runtime:
    """Every runtime that this machine can offer."""
    runtime = next_runtime()
    if isinstance(runtime, ProcessRuntime) and runtime.verdict.features is None:
        pytest.skip(f"{runtime.verdict.reason} {runtime.verdict.remedy}")
    return runtime


@pytest.fixture
def image(runtime: Runtime) -> str | None:
    """What the jobs run in, where a runtime has images at all."""
    return "train" if runtime.traits.name == "docker" else None


@pytest.fixture
def launch(runtime: Runtime, image: str | None, tmp_path: Path) -> Iterator[Launch]:
    """Start one shell script an instance; whatever still runs is closed in the end."""
    runs: list[Run] = []

    def start(
        *scripts: str,
        entrypoint: Sequence[str] = ("/bin/sh", "-c"),
        environment: Mapping[str, str] | None = None,
        network_isolation: bool = False,
        on_output: Callable[[str, bytes], None] | None = None,
        mounts: Sequence[Mount] = (),
        outlives: bool = False,
        reachable: bool = False,
    ) -> Run:
        job = f"job-{len(runs)}"
        instances = tuple(
            InstancePlan(
                host=f"algo-{number}",
                image=image,
                entrypoint=tuple(entrypoint),
                arguments=(script,),
                environment=environment or {},
                mounts=(*instance_mounts(tmp_path / job / f"algo-{number}"), *mounts),
                scratch=made(tmp_path / job / f"algo-{number}" / "scratch"),
            )
            for number, script in enumerate(scripts, start=1)
        )
        plan = JobPlan(
            job,
            f"arn:{job}",
            instances,
            network_isolation,
            outlives=outlives,
            reachable=reachable,
        )
        output = Output()
        runs.append(Run(runtime.launch(plan, on_output or output), output, plan))
        return runs[-1]

    yield start
    for run in runs:
        if not run.left:
            run.fleet.close()


@pytest.fixture
def stager(tmp_path: Path, object_store: ObjectStore, bucket: str) -> Iterator[Stager]:
    stager = Stager(tmp_path, object_store, bucket)
    yield stager
    stager.end()
