"""Whatever call of a job's life fails: the job has an end, and nobody holds a GPU afterwards."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from job_bench import SCOPE, Bench, LocalRuntime, Processes

from emulator.database import Database
from emulator.drivers.base import OutputSink
from emulator.drivers.choice import Runtimes
from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Phase
from emulator.model.plan import JobPlan
from emulator.placement.device import Gpu
from emulator.placement.gpus import Inventory
from emulator.resources.training import job_id
from emulator.workloads.run import settling

ONE_GPU = Inventory((Gpu("GPU-0", "NVIDIA L40S", 46068, 0),), source="nvml", rehearsal=True)
ON_GPU = {
    "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
}
FULL = sqlite3.OperationalError("database or disk is full")
SCRIPT = "echo trained; echo x > $MODEL/weights"
MANY = 100
"""More calls than a job's life has."""


class Nth:
    """Lets the n-th call fail, and so many that follow it."""

    def __init__(self, error: Exception):
        self._error = error
        self._calls = itertools.count(1)
        self._first = self._last = 0

    def fail(self, first: int, length: int = 1) -> None:
        self._calls = itertools.count(1)
        self._first, self._last = first, first + length - 1

    def passes(self) -> None:
        """Raise the error if it is this call's turn."""
        if self._first <= next(self._calls) <= self._last:
            raise self._error

    @property
    def reached(self) -> bool:
        """Whether there were so many calls at all."""
        return next(self._calls) > self._first


class FragileRuntime(LocalRuntime):
    """Each of its calls, and of its fleets', may fail."""

    def __init__(self, nth: Nth):
        super().__init__()
        self._nth = nth

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        self._nth.passes()
        super().prepare(image, say, cancelled)

    def launch(self, plan: JobPlan, sink: OutputSink) -> Processes:
        self._nth.passes()
        fleet = FragileFleet(plan, sink)
        fleet.nth = self._nth
        return fleet


class FragileFleet(Processes):
    nth: Nth

    def next_exit(self, timeout: float) -> Any:
        self.nth.passes()
        return super().next_exit(timeout)

    def terminate(self) -> None:
        self.nth.passes()
        super().terminate()

    def kill(self, host: str | None = None) -> None:
        self.nth.passes()
        super().kill(host)

    def close(self) -> None:
        try:
            self.nth.passes()
        finally:
            super().kill()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Nth:
    """The transactions of all databases."""
    nth, writing = Nth(FULL), Database.writing

    @contextmanager
    def fragile(self: Database) -> Iterator[sqlite3.Connection]:
        nth.passes()
        with writing(self) as connection:
            yield connection

    monkeypatch.setattr(Database, "writing", fragile)
    end = settling.end_in_time
    monkeypatch.setattr(
        "emulator.workloads.run.supervisor.end_in_time",
        lambda *arguments: end(*arguments, pause=0.01),
    )
    monkeypatch.setattr("emulator.workloads.run.supervisor._AGAIN_SECONDS", 0.01)
    return nth


def lives(bench: Bench, nth: Nth, length: int, stops: bool = False) -> int:
    """Let the n-th call fail for each n in a life of its own, while there are so many."""
    for n in range(1, MANY):
        name = f"job-{n}"
        nth.fail(n, length)
        script = "while :; do sleep 0.05; done" if stops else SCRIPT
        try:
            bench.submit(script, name, **ON_GPU)
        except sqlite3.Error:
            nth.fail(0)
            with suppress(ValidationError):
                assert bench.ended(name).life.status.terminal
        else:
            if stops:
                stop(bench, name)
            bench.ended(name)
        reached = nth.reached
        nth.fail(0)
        bench.eventually(lambda: bench.supervisor.running() == 0)
        # Who comes next gets the GPU: nobody holds it.
        bench.submit("true", f"{name}-after", **ON_GPU)
        after = bench.ended(f"{name}-after")
        assert after.life.status.value == "Completed", (n, after.life.failure_reason)
        bench.eventually(lambda: bench.context.capacity.holdings()["gpus"][0]["job"] is None)  # type: ignore[attr-defined]
        if not reached:
            return n
    raise AssertionError("a job has no end of calls")


def stop(bench: Bench, name: str) -> None:
    """As often as it takes, once the job trains or fails for what has been let fail."""

    def begun() -> bool:
        life = bench.job(name).life
        return life.phase is Phase.RUNNING or life.status.terminal

    bench.eventually(begun)
    while not bench.job(name).life.status.terminal:
        try:
            bench.supervisor.stop(job_id(SCOPE, name))
            return
        except sqlite3.Error:
            continue
        except ValidationError:
            return


def bench_with(tmp_path: Path, runtime: LocalRuntime) -> Bench:
    return Bench(tmp_path, ONE_GPU, runtimes=Runtimes(runtime, None), stop_grace=0.2)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("stops", [False, True])
def test_a_database_that_fails(tmp_path: Path, writes: Nth, length: int, stops: bool) -> None:
    bench = bench_with(tmp_path, LocalRuntime())
    try:
        assert lives(bench, writes, length, stops) > 5
    finally:
        writes.fail(0)
        bench.supervisor.shutdown()


@pytest.mark.parametrize("stops", [False, True])
def test_a_runtime_that_fails(tmp_path: Path, stops: bool) -> None:
    nth = Nth(RuntimeError("can't start new thread"))
    bench = bench_with(tmp_path, FragileRuntime(nth))
    try:
        assert lives(bench, nth, 1, stops) > 3
    finally:
        nth.fail(0)
        bench.supervisor.shutdown()
