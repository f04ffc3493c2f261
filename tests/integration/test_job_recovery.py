"""Jobs whose emulator was killed, and their instances with it: what the next one does.

What the files hold at some moment is all that a kill leaves: the next emulator works on a copy.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job_bench import INTERNAL_ERROR, SCOPE, SECONDS, Bench, FolderSyncs, statuses

from emulator.model.lifecycle import Lifecycle, Phase, Status
from emulator.resources.training import job_id
from emulator.workloads.run.recovery import RESTART_NOTICE

ONCE = ["Starting", "Downloading", "Training"]
SPOT: dict[str, Any] = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
}
TWICE: dict[str, Any] = {"RetryStrategy": {"MaximumRetryAttempts": 2}}
RESUMES = (
    'if [ -e "$CHECKPOINTS/step" ]; then cat "$CHECKPOINTS/step"; [ -e "$RUN" ] || exit 0; fi; '
    'echo step 7 > "$CHECKPOINTS/step"; echo ready; while :; do sleep 0.05; done'
)


class Emulators:
    """One after the other, each from what the one before had written when it was killed."""

    def __init__(self, root: Path):
        self._root = root
        self._benches: list[Bench] = []
        self.bench = self._start(root / "0")

    def _start(self, place: Path) -> Bench:
        self._benches.append(Bench(place, syncs=FolderSyncs(place / "checkpoints")))
        return self._benches[-1]

    def kill(self) -> Bench:
        """The next emulator, which has recovered."""
        place = self._root / str(len(self._benches))
        shutil.copytree(self.bench.root, place)
        self.bench = self._start(place)
        self.bench.supervisor.recover()
        return self.bench

    def close(self) -> None:
        for bench in self._benches:
            bench.folder.holding.clear()
            bench.supervisor.shutdown()


@pytest.fixture
def emulators(tmp_path: Path) -> Iterator[Emulators]:
    emulators = Emulators(tmp_path)
    yield emulators
    emulators.close()


def trains(bench: Bench, script: str, **more: Any) -> None:
    bench.submit(script, **more)
    bench.until_logged("ready")
    bench.until(Phase.RUNNING)


@pytest.mark.parametrize(
    ("more", "between"), [(TWICE, []), (SPOT, ["Interrupted"])], ids=["retry", "spot"]
)
def test_a_job_goes_on_from_its_checkpoint(
    emulators: Emulators, more: dict[str, Any], between: list[str]
) -> None:
    trains(emulators.bench, RESUMES, **more)
    after = emulators.kill()
    job = after.ended()
    assert statuses(job) == [*ONCE, *between, *ONCE, "Uploading", "Completed"]
    assert after.lines()[-1] == "step 7"
    assert RESTART_NOTICE in after.lines()


def until_training_again(bench: Bench, attempt: int) -> None:
    bench.eventually(lambda: bench.job().life.attempts == attempt)
    bench.until(Phase.RUNNING)


def test_retries_are_counted_over_restarts(emulators: Emulators) -> None:
    trains(emulators.bench, "echo ready; while :; do sleep 0.05; done", **TWICE)
    for attempt in (2, 3):
        bench = emulators.kill()
        until_training_again(bench, attempt)
    job = emulators.kill().ended()
    assert statuses(job) == [*ONCE, *ONCE, *ONCE, "Failed"]
    assert job.life.failure_reason == INTERNAL_ERROR


def test_an_interrupted_job_and_one_that_is_to_be_retried_wait_on(emulators: Emulators) -> None:
    bench = emulators.bench
    trains(bench, RESUMES, **SPOT)
    bench.supervisor.interrupt(job_id(SCOPE, "job"), 300)
    bench.until(Phase.INTERRUPTED)
    bench.eventually(lambda: not bench.context.job_directory(bench.job().spec).exists())
    after = emulators.kill()
    assert statuses(after.ended())[3:5] == ["Interrupted", "Starting"]
    assert after.job().life.status is Status.COMPLETED


@pytest.mark.parametrize("more", [TWICE, SPOT], ids=["retry", "spot"])
def test_a_shutdown_leaves_the_job_to_the_next_emulator(
    emulators: Emulators, more: dict[str, Any]
) -> None:
    trains(emulators.bench, RESUMES, **more)
    emulators.bench.supervisor.shutdown()
    assert not emulators.bench.job().life.status.terminal
    after = emulators.kill()
    assert after.ended().life.status is Status.COMPLETED
    assert after.lines()[-1] == "step 7"


@pytest.mark.parametrize(
    ("script", "end", "reason"),
    [
        ("true", "Completed", None),
        ("exit 3", "Failed", "AlgorithmError: , exit code: 3"),
    ],
)
def test_a_kill_during_the_upload_makes_it_again(
    emulators: Emulators, script: str, end: str, reason: str | None
) -> None:
    emulators.bench.folder.holding.add("upload")
    emulators.bench.submit(f'echo w > "$MODEL/w"; {script}', **TWICE)
    assert emulators.bench.folder.reached.wait(SECONDS)
    after = emulators.kill()
    job = after.ended()
    assert statuses(job) == [*ONCE, "Uploading", end]
    assert job.life.failure_reason == reason
    assert (after.folder.root / "job/algo-1/w").read_text() == "w\n"
    assert not after.context.job_directory(job.spec).exists()


def test_a_kill_in_the_grace_of_a_time_limit(emulators: Emulators) -> None:
    emulators.bench.submit(
        "trap '' TERM; echo w > \"$MODEL/w\"; echo ready; while :; do sleep 0.05; done",
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )
    emulators.bench.until(Phase.STOPPING)
    after = emulators.kill()
    assert statuses(after.ended()) == [*ONCE, "Stopping", "Uploading", "MaxRuntimeExceeded"]
    assert (after.folder.root / "job/algo-1/w").exists()


def test_a_kill_during_the_upload_of_a_stopped_job(emulators: Emulators) -> None:
    bench = emulators.bench
    trains(bench, 'echo w > "$MODEL/w"; echo ready; while :; do sleep 0.05; done')
    bench.folder.holding.add("upload")
    bench.supervisor.stop(job_id(SCOPE, "job"))
    bench.until(Phase.UPLOADING)
    after = emulators.kill()
    assert statuses(after.ended()) == [*ONCE, "Stopping", "Uploading", "Stopped"]
    assert (after.folder.root / "job/algo-1/w").exists()


def test_a_kill_before_the_stop_was_heeded(emulators: Emulators) -> None:
    emulators.bench.folder.holding.add("stage")
    emulators.bench.submit("true", **TWICE)
    assert emulators.bench.folder.reached.wait(SECONDS)
    emulators.bench.store.change(job_id(SCOPE, "job"), lambda life: life.request_stop(0))
    job = emulators.kill().ended()
    assert statuses(job) == ["Starting", "Downloading", "Stopping", "Stopped"]


def test_the_time_without_an_emulator_is_no_training(emulators: Emulators) -> None:
    """MaxRuntimeInSeconds is used up by what a job has trained, not by a night in between."""
    limit = {"StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    trains(emulators.bench, RESUMES, **limit, **TWICE)
    with closing(sqlite3.connect(emulators.bench.root / "emulator.db")) as database, database:
        database.execute("UPDATE workload SET created = created - ?", (HOUR,))
    emulators.bench.store.change(job_id(SCOPE, "job"), earlier)
    for path in emulators.bench.root.rglob("*"):
        if path.suffix == ".json" or path.is_relative_to(emulators.bench.root / "logs"):
            os.utime(path, (path.stat().st_mtime - HOUR,) * 2)
    job = emulators.kill().ended()
    assert job.life.status is Status.COMPLETED
    trained, lost = job.life.transitions[2:4]
    assert lost.started - trained.started < HOUR / 2, "it was lost with that emulator"
    assert job.life.attempts == 2


HOUR = 3600.0


def earlier(life: Lifecycle) -> Lifecycle:
    """All of it an hour ago."""
    transitions = tuple(
        replace(each, started=each.started - HOUR, ended=each.ended and each.ended - HOUR)
        for each in life.transitions
    )
    return replace(life, transitions=transitions, modified=life.modified - HOUR)


def test_nothing_of_an_ended_job_stays(emulators: Emulators) -> None:
    emulators.bench.submit("true")
    job = emulators.bench.ended()
    directory = emulators.bench.context.job_directory(job.spec)
    (directory / "algo-1/ml").mkdir(parents=True)
    after = emulators.kill()
    assert not after.context.job_directory(job.spec).exists()
