"""What an engine, its client or the machine does that nobody foresaw: every job has an end."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker.api.container import ContainerApiMixin
from fake_engine import FakeEngine, hang_up, nonsense, refusal
from test_docker_awaited import Output, plan

from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import inspect_engine, side_by_side
from emulator.drivers.docker.fleet import DockerFleet
from emulator.drivers.docker.watch import UNWATCHED, Watch
from emulator.drivers.images.resolution import Images
from emulator.model.errors import InternalServerError

SECONDS = 20


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine.running(tmp_path) as engine:
        engine.has_image("image:1")
        yield engine


@pytest.fixture
def runtime(engine: FakeEngine) -> DockerRuntime:
    client = engine.client()
    return DockerRuntime(client, inspect_engine(client), Images(client), port=4570, emulator="mine")


def watch(engine: FakeEngine, output: Output, **more: Any) -> Watch:
    """Of the container that runs."""
    container = engine.container("algo-1")
    never = threading.Event()
    return Watch(
        engine.client(), "algo-1", container.id, output, never, never, retry_seconds=0, **more
    )


def running(engine: FakeEngine, runtime: DockerRuntime, tmp_path: Path) -> DockerFleet:
    return runtime.launch(plan(tmp_path), Output())


def errors() -> list[BaseException]:
    return [
        struct.error("unpack requires a buffer of 8 bytes"),
        KeyError("State"),
        MemoryError(),
        ValueError("I/O operation on closed file"),
        SystemExit("a bug"),
    ]


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
def test_a_watch_that_cannot_go_on_kills_its_container_and_reports_an_end(
    engine: FakeEngine,
    runtime: DockerRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    running(engine, runtime, tmp_path).leave()

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(ContainerApiMixin, "logs", broken)
    end = watch(engine, Output(), trouble_seconds=0).until_end()
    assert (end.host, end.lost) == ("algo-1", UNWATCHED)
    assert engine.container("algo-1").signals == ["SIGKILL"]


def test_an_answer_that_is_no_json_is_an_end_too(
    engine: FakeEngine, runtime: DockerRuntime, tmp_path: Path
) -> None:
    fleet = running(engine, runtime, tmp_path)
    container = engine.container("algo-1")
    engine.fails(f"GET /containers/{container.id}/json", nonsense)
    container.write(b"the last line\n")
    output = Output()
    follower = watch(engine, output, trouble_seconds=0)
    container.end(0)
    assert follower.until_end().lost == UNWATCHED
    engine.recovers()
    fleet.close()


def test_trouble_that_passes_costs_nothing(
    engine: FakeEngine, runtime: DockerRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(engine, runtime, tmp_path).leave()
    container, output = engine.container("algo-1"), Output()
    container.write(b"1\n")
    honest = ContainerApiMixin.logs
    troubles = iter(errors()[:3])

    def at_first_broken(*args: Any, **more: Any) -> Any:
        for error in troubles:
            raise error
        return honest(*args, **more)

    monkeypatch.setattr(ContainerApiMixin, "logs", at_first_broken)
    container.write(b"2\n")
    container.end(3)
    end = watch(engine, output).until_end()
    assert (end.code, end.lost) == (3, "")
    assert output["algo-1"] == b"1\n2\n"


def test_a_stream_that_is_cut_in_a_header_is_read_again(
    engine: FakeEngine, runtime: DockerRuntime, tmp_path: Path
) -> None:
    running(engine, runtime, tmp_path).leave()
    container, output = engine.container("algo-1"), Output()
    container.write(b"1\n")

    def cut(handler: Any) -> None:
        engine.recovers()
        handler.send(200, struct.pack(">BxxxL", 1, 2) + b"1\n" + b"\x01\x00", "application/x")

    engine.fails(r"/logs", cut)
    container.end(0)
    assert watch(engine, output).until_end().code == 0
    assert output["algo-1"] == b"1\n"


def threads_that_run_out(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    """Only so many more threads can be started by this one."""
    start = threading.Thread.start
    left = iter(range(allowed))

    def limited(thread: threading.Thread) -> None:
        mine = thread.name.startswith(("watch ", "engine call"))
        if mine and next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
def test_a_start_without_threads_leaves_nothing_behind(
    engine: FakeEngine,
    runtime: DockerRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: int,
) -> None:
    with monkeypatch.context() as patched:
        threads_that_run_out(patched, allowed)
        with pytest.raises(InternalServerError, match="can't start new thread"):
            runtime.launch(plan(tmp_path, hosts=3), Output())
    assert not engine.containers
    assert not engine.networks


@pytest.mark.parametrize(
    "request_", ["POST /networks/create", "POST /containers/create", "POST /containers/.*/start"]
)
def test_a_start_that_fails_anywhere_leaves_nothing_behind(
    engine: FakeEngine, runtime: DockerRuntime, tmp_path: Path, request_: str
) -> None:
    engine.fails(request_, refusal(500, "no"))
    with pytest.raises(InternalServerError):
        runtime.launch(plan(tmp_path, hosts=2), Output())
    assert not engine.containers
    assert not engine.networks


def test_every_job_has_a_network_and_its_instances_are_on_it(
    engine: FakeEngine, runtime: DockerRuntime, tmp_path: Path
) -> None:
    fleet = runtime.launch(plan(tmp_path, hosts=2), Output())
    (network,) = engine.networks.values()
    modes = {one.body["HostConfig"]["NetworkMode"] for one in engine.containers.values()}
    assert modes == {network["Name"] if "Name" in network else network["name"]}
    fleet.close()
    assert not engine.networks


def test_calls_side_by_side() -> None:
    assert side_by_side(lambda number: number * 2, range(40)) == list(range(0, 80, 2))
    assert side_by_side(str, []) == []
    done: list[int] = []

    def some_fail(number: int) -> None:
        done.append(number)
        if number in (3, 5):
            raise KeyError(number)

    with pytest.raises(KeyError, match="3"):
        side_by_side(some_fail, range(8))
    assert sorted(done) == list(range(8))


def test_calls_without_threads_are_made_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    threads_that_run_out(monkeypatch, 0)
    call: Callable[[int], int] = lambda number: number + 1  # noqa: E731
    assert side_by_side(call, range(3)) == [1, 2, 3]


def test_what_a_killed_emulator_left_of_a_look_into_an_image_is_removed(
    engine: FakeEngine, runtime: DockerRuntime
) -> None:
    # As if killed: neither the look nor the removal after it is answered.
    engine.fails("/containers/.+", hang_up)
    engine.fails("POST /containers/create", lambda handler: handler.create_container())
    with pytest.raises(requests.exceptions.ConnectionError):
        Images(engine.client(), labels={"sagemaker-emulator.emulator": "mine"}).local("image:1")
    engine.recovers()
    assert len(engine.containers) == 1
    runtime.clean()
    assert not engine.containers
