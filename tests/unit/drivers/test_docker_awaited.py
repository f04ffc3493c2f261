"""The docker runtime while its engine is away: at the start, during a job, at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import DockerException
from fake_engine import FakeEngine

from emulator.drivers.base import Unreachable
from emulator.drivers.docker.awaited import AwaitedDocker, Docker
from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import ENGINE_GONE, inspect_engine
from emulator.drivers.images.resolution import Images, Presence
from emulator.model.errors import SetupError
from emulator.model.plan import InstancePlan, JobPlan

SECONDS = 20


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine.running(tmp_path) as engine:
        engine.has_image("image:1")
        yield engine


def awaited(engine: FakeEngine, **more: Any) -> AwaitedDocker:
    def connect(closing: threading.Event) -> Docker:
        client = engine.client()
        try:
            facts = inspect_engine(client)
        except (DockerException, *ENGINE_GONE) as error:
            raise SetupError("No Docker engine answers.") from error
        images = Images(client)
        runtime = DockerRuntime(client, facts, images, port=4570, emulator="mine", closing=closing)
        return Docker(client, facts, images, runtime)

    return AwaitedDocker(connect, retry_seconds=0.01, **more)


def plan(tmp_path: Path, job: str = "job", hosts: int = 1) -> JobPlan:
    instances = tuple(
        InstancePlan(
            host=f"algo-{number}",
            image="image:1",
            entrypoint=("train",),
            arguments=(),
            environment={},
            mounts=(),
            scratch=tmp_path / f"algo-{number}",
            gpus=(),
        )
        for number in range(1, hosts + 1)
    )
    return JobPlan(job, f"arn:{job}", instances)


class Output(dict[str, bytes]):
    def __call__(self, host: str, chunk: bytes) -> None:
        self[host] = self.get(host, b"") + chunk


def in_background(call: Callable[[], Any]) -> Callable[[], Any]:
    """What the call returns, or the error that it raises, once it is there."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(SECONDS)
        assert results, "it goes on and on"
        return results[0]

    return result


def eventually(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_adopted_when_an_engine_comes_after_the_emulator(
    engine: FakeEngine, tmp_path: Path
) -> None:
    first, output = awaited(engine), Output()
    first.start()
    fleet = first.launch(plan(tmp_path), output)
    container = engine.container("algo-1")
    container.write(b"line 1\n")
    eventually(lambda: output.get("algo-1") == b"line 1\n")
    fleet.leave()
    first.launch(plan(tmp_path, "ended"), Output()).leave()
    engine.go()
    container.write(b"line 2\n")

    opened: list[str] = []
    second = awaited(engine, open_late=lambda facts: opened.append(facts.version))
    assert second.start() is None
    assert second.away() == "No Docker engine answers"
    assert second.traits.name == "docker"
    assert second.look_up("image:1") is Presence.UNKNOWN
    second.clean(keep={"arn:job"})
    adopted = in_background(lambda: second.adopt("arn:job", output, {"algo-1": len(b"line 1\n")}))
    engine.come()
    taken_over = adopted()
    assert second.away() == ""
    assert opened == ["20.10.24"]
    assert {
        one.labels["sagemaker-emulator.training-job"] for one in engine.containers.values()
    } == {"job"}, "what an ended job left is removed"
    container.write(b"line 3\n")
    container.end(7)
    assert taken_over.next_exit(SECONDS).code == 7
    assert output["algo-1"] == b"line 1\nline 2\nline 3\n"
    taken_over.close()
    assert not engine.containers
    assert not engine.networks


def test_an_emulator_that_ends_leaves_what_it_waits_for(engine: FakeEngine, tmp_path: Path) -> None:
    engine.go()
    docker = awaited(engine)
    docker.start()
    waiting = [
        in_background(lambda: docker.adopt("arn:job", Output())),
        in_background(lambda: docker.remove("arn:job")),
        in_background(lambda: docker.launch(plan(tmp_path), Output())),
    ]
    docker.stop_waiting()
    assert [type(result()) for result in waiting] == [Unreachable] * 3


def test_the_engine_of_a_job_is_away_for_as_long_as_it_likes(
    engine: FakeEngine, tmp_path: Path
) -> None:
    docker, output = awaited(engine), Output()
    docker.start()
    fleet = docker.launch(plan(tmp_path), output)
    container = engine.container("algo-1")
    container.write(b"line 1\n")
    eventually(lambda: output.get("algo-1") == b"line 1\n")
    engine.go()
    assert fleet.next_exit(0.05) is None
    assert docker.away() == "the Docker engine does not answer"
    assert docker.look_up("image:1") is Presence.THERE, "the engine had it"
    container.write(b"line 2\n")
    container.end(0)
    engine.come()
    end = fleet.next_exit(SECONDS)
    assert end
    assert (end.code, end.lost) == (0, "")
    assert output["algo-1"] == b"line 1\nline 2\n"
    fleet.close()


def test_a_stop_reaches_the_containers_of_an_engine_that_was_away(
    engine: FakeEngine, tmp_path: Path
) -> None:
    docker = awaited(engine)
    docker.start()
    fleet = docker.launch(plan(tmp_path, hosts=2), Output())
    engine.on_signal = lambda container, _: container.end(0)
    engine.go()
    fleet.terminate()
    assert fleet.out_of_reach
    fleet._sent_at = 0.0
    assert fleet.next_exit(0) is None
    assert fleet.out_of_reach
    engine.come()
    fleet._sent_at = 0.0
    ends = {fleet.next_exit(SECONDS), fleet.next_exit(SECONDS)}
    assert {end.host for end in ends if end} == {"algo-1", "algo-2"}
    assert [one.signals for one in engine.containers.values()] == [["SIGTERM"], ["SIGTERM"]]
    assert not fleet.out_of_reach
    engine.go()
    closing = in_background(fleet.close)
    engine.come()
    closing()
    assert not engine.containers
    assert not engine.networks


def test_new_jobs_wait_for_an_image_of_an_engine_that_restarts(engine: FakeEngine) -> None:
    docker = awaited(engine)
    docker.start()
    engine.go()
    said: list[str] = []
    prepared = in_background(lambda: docker.prepare("image:1", said.append, lambda: False))
    engine.come()
    assert prepared() is None
    engine.go()
    given_up = threading.Event()
    prepared = in_background(lambda: docker.prepare("image:1", said.append, given_up.is_set))
    given_up.set()
    assert prepared() is None


def test_a_warm_pool_is_removed_when_the_engine_is_back(engine: FakeEngine, tmp_path: Path) -> None:
    docker = awaited(engine)
    docker.start()
    engine.networks["n"] = {
        "Id": "n",
        "Labels": {"sagemaker-emulator.emulator": "mine", "sagemaker-emulator.warm-pool": "p"},
    }
    engine.go()
    docker.release("p")
    engine.come()
    engine.until(lambda: not engine.networks)
