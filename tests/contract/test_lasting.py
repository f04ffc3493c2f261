"""What a runtime has to do whose instances outlive the emulator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime_harness import PATIENCE, Launch, Next, Output, Run

from emulator.drivers.base import Leavable

Left = Callable[[str, str], Run]
SLEEP = "echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def left(launch: Launch, next_runtime: Next) -> Iterator[Left]:
    """Starts a job, waits for a first line of it, and gives it up as an emulator that is killed."""
    runs: list[Run] = []

    def start(script: str, first: str) -> Run:
        runs.append(run := launch(script, outlives=True))
        run.await_text(first)
        assert isinstance(run.fleet, Leavable)
        run.fleet.leave()
        run.left = True
        return run

    yield start
    for run in runs:
        next_runtime().remove(run.plan.arn)


def test_the_next_emulator_goes_on_where_this_one_left(left: Left, next_runtime: Next) -> None:
    go = "/opt/ml/output/go"
    run = left(f"echo before; until [ -e {go} ]; do sleep 0.05; done; echo after; exit 5", "before")
    runtime, output = next_runtime(), Output()
    fleet = runtime.adopt(run.plan.arn, output, {"algo-1": len("before\n")})
    assert fleet
    (run.directory("/opt/ml/output") / "go").touch()
    end = fleet.next_exit(PATIENCE)
    assert end
    assert (end.host, end.code, end.lost) == ("algo-1", 5, "")
    assert output.text() == "after\n"
    fleet.close()
    assert runtime.adopt(run.plan.arn, Output()) is None


def test_an_end_that_nobody_saw_is_told_with_the_output(left: Left, next_runtime: Next) -> None:
    run = left("echo alone; touch /opt/ml/output/done; exit 7", "")
    deadline = time.monotonic() + PATIENCE
    while not (run.directory("/opt/ml/output") / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    output = Output()
    fleet = next_runtime().adopt(run.plan.arn, output)
    assert fleet
    end = fleet.next_exit(PATIENCE)
    assert end
    assert (end.host, end.code) == ("algo-1", 7)
    assert output.text() == "alone\n"
    fleet.close()


def test_a_fleet_that_was_taken_over_obeys(left: Left, next_runtime: Next) -> None:
    run = left(f"trap 'exit 9' TERM; {SLEEP}", "ready")
    fleet = next_runtime().adopt(run.plan.arn, Output())
    assert fleet
    fleet.terminate()
    end = fleet.next_exit(PATIENCE)
    assert end
    assert end.code == 9
    fleet.close()


def test_a_job_that_was_never_started_is_not_taken_over(next_runtime: Next) -> None:
    assert next_runtime().adopt("arn:other", Output()) is None


def test_what_is_removed_runs_no_more(left: Left, next_runtime: Next) -> None:
    mark = f"6{os.getpid()}"
    run = left(f"(sleep {mark} &) ; {SLEEP}", "ready")
    assert runs(mark)
    runtime = next_runtime()
    runtime.remove(run.plan.arn)
    assert not runs(mark)
    assert runtime.adopt(run.plan.arn, Output()) is None
    runtime.remove(run.plan.arn)


def test_clean_spares_the_jobs_that_are_to_be_kept(left: Left, next_runtime: Next) -> None:
    kept, dropped = left(SLEEP, "ready"), left(SLEEP, "ready")
    runtime = next_runtime()
    runtime.clean(keep=[kept.plan.arn])
    assert runtime.adopt(dropped.plan.arn, Output()) is None
    fleet = runtime.adopt(kept.plan.arn, Output())
    assert fleet
    assert fleet.next_exit(0.1) is None
    fleet.close()


def runs(mark: str) -> bool:
    """Whether some process of this machine has that word in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"\0{mark}\0".encode() in path.read_bytes():
                return True
        except OSError:
            continue  # it ended meanwhile
    return False
