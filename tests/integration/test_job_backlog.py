"""Jobs far behind in the queue wait without threads, and lose nothing by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_bench import SCOPE, Bench, statuses

from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Phase
from emulator.model.record import Job
from emulator.resources.training import job_id
from emulator.workloads.run import supervisor

PORT = {"HyperParameters": {"holds": "a port"}}
"""Only one job at a time can have it."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(supervisor, "CONTENDERS", 2)
    made = Bench(tmp_path)
    yield made
    made.supervisor.shutdown()


def job_threads() -> int:
    return sum(thread.name.startswith("job-") for thread in threading.enumerate())


def test_they_run_in_the_order_in_which_they_were_created(bench: Bench) -> None:
    order = bench.root / "order"
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        bench.submit(f"echo {name} >> {order}", name, **PORT)
    assert bench.supervisor.running() == 9
    bench.eventually(lambda: all(bench.job(n).life.phase is Phase.PENDING for n in names))
    assert job_threads() == 3
    (bench.root / "go").touch()
    for name in names:
        bench.eventually(lambda name=name: bench.job(name).life.status.terminal)
        assert statuses(bench.job(name))[-1] == "Completed"
    assert order.read_text().split() == names


def test_one_that_is_stopped_ends_at_once_and_holds_nobody_up(bench: Bench) -> None:
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    for number in range(5):
        bench.submit("true", f"job-{number}", **PORT)
    stopped = bench.supervisor.stop(job_id(SCOPE, "job-3"))
    assert statuses(stopped) == ["Starting", "Pending", "Stopping", "Stopped"]
    (bench.root / "go").touch()
    bench.eventually(lambda: bench.job("job-4").life.status.terminal)
    assert statuses(bench.job("job-4"))[-1] == "Completed"


def test_one_that_is_stopped_as_its_turn_comes_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    for number in range(4):
        bench.submit("true", f"job-{number}", **PORT)
    store = bench.supervisor._context.store
    update, turned = store.update, threading.Event()

    def update_and_wait(*arguments: object) -> Job:
        changed = update(*arguments)  # type: ignore[arg-type]
        if threading.current_thread() is threading.main_thread():
            # The turn of the job comes between this and what the stop does next.
            (bench.root / "go").touch()
            bench.eventually(lambda: len(bench.supervisor._backlog) == 0)
            turned.set()
        return changed

    monkeypatch.setattr(store, "update", update_and_wait)
    bench.supervisor.stop(job_id(SCOPE, "job-3"))
    assert turned.is_set()
    bench.eventually(lambda: bench.job("job-3").life.status.terminal)
    assert statuses(bench.job("job-3"))[-1] == "Stopped"


def test_a_full_disk_loses_none_that_has_just_been_taken_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    for number in range(3):
        bench.submit("true", f"job-{number}", **PORT)
    store = bench.supervisor._context.store
    with monkeypatch.context() as patch:

        def full(*_: object) -> Job:
            raise supervisor.sqlite3.OperationalError("database or disk is full")

        patch.setattr(store, "change", full)
        bench.submit("true", "late", **PORT)
    (bench.root / "go").touch()
    bench.eventually(lambda: bench.job("late").life.status.terminal)
    assert statuses(bench.job("late"))[-1] == "Completed"


def test_one_of_higher_priority_passes_them(bench: Bench) -> None:
    order = bench.root / "order"
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    for name in ("a", "b", "c", "d"):
        bench.submit(f"echo {name} >> {order}", name, **PORT)
    tags = [{"Key": "emulator:priority", "Value": "5"}]
    bench.submit(f"echo urgent >> {order}", "urgent", Tags=tags, **PORT)
    bench.until(Phase.PENDING, "urgent")
    (bench.root / "go").touch()
    bench.eventually(lambda: bench.job("d").life.status.terminal)
    assert order.read_text().split() == ["urgent", "a", "b", "c", "d"]


def test_its_pending_time_ends_without_a_thread(bench: Bench) -> None:
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    for number in range(3):
        bench.submit("true", f"job-{number}", **PORT)
    spot = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1},
    }
    bench.submit("true", "spot", **PORT, **spot)
    bench.eventually(lambda: bench.job("spot").life.status.terminal)
    assert statuses(bench.job("spot"))[-1] == "MaxWaitTimeExceeded"
    (bench.root / "go").touch()


def test_the_next_emulator_goes_on_with_them_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CONTENDERS", 2)
    order = tmp_path / "order"
    first = Bench(tmp_path)
    first.submit("sleep 600", "first", **PORT)
    first.until(Phase.RUNNING, "first")
    names = [f"job-{number}" for number in range(6)]
    for name in names:
        first.submit(f"echo {name} >> {order}", name, **PORT)
    first.supervisor.shutdown()
    second = Bench(tmp_path)
    second.supervisor.recover()
    try:
        for name in names:
            second.eventually(lambda name=name: second.job(name).life.status.terminal)
    finally:
        second.supervisor.shutdown()
    assert order.read_text().split() == names


def test_a_full_disk_ends_a_stopped_one_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_AGAIN_SECONDS", 0.01)
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    for number in range(4):
        bench.submit("true", f"job-{number}", **PORT)
    failures = iter((True, True))
    real = supervisor.end_waiting

    def full(*arguments: object) -> object:
        if next(failures, False):
            raise supervisor.sqlite3.OperationalError("database or disk is full")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(supervisor, "end_waiting", full)
    bench.supervisor.stop(job_id(SCOPE, "job-3"))
    bench.eventually(lambda: bench.job("job-3").life.status.terminal)
    assert statuses(bench.job("job-3"))[-1] == "Stopped"
    (bench.root / "go").touch()


def test_one_that_is_moved_up_runs_next(bench: Bench) -> None:
    order = bench.root / "order"
    bench.submit(f"while [ ! -e {bench.root}/go ]; do sleep 0.01; done", "first", **PORT)
    bench.until(Phase.RUNNING, "first")
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        bench.submit(f"echo {name} >> {order}", name, **PORT)
    assert job_id(SCOPE, "job-4") in bench.supervisor.backlog()
    bench.supervisor.move_first(job_id(SCOPE, "job-4"))
    assert job_id(SCOPE, "job-4") not in bench.supervisor.backlog()
    with pytest.raises(ValidationError, match="does not wait"):
        bench.supervisor.move_first(job_id(SCOPE, "first"))
    (bench.root / "go").touch()
    for name in names:
        bench.eventually(lambda name=name: bench.job(name).life.status.terminal)
    assert order.read_text().split() == ["job-4", *names[:4]]
