"""What is left of jobs that the emulator itself, or its disk, has failed."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_bench import INTERNAL_ERROR, SCOPE, SECONDS, Bench, statuses

from emulator.model.errors import InternalServerError, ResourceInUse
from emulator.model.lifecycle import Phase, Status
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import job_id
from emulator.workloads.run import supervisor
from emulator.workloads.run.attempt import SHUTDOWN_NOTICE
from emulator.workloads.run.context import Instances, NoSyncs
from emulator.workloads.run.recovery import RESTART_NOTICE
from emulator.workloads.store.runs import JobStore

ONCE = ["Starting", "Downloading", "Training"]
SAVES = 'echo weights > "$MODEL/weights"; '
STAYS = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.folder.holding.clear()
    bench.supervisor.shutdown()


def weights(bench: Bench) -> str:
    return (bench.root / "kept-job-algo-1/weights").read_text()


def killed(bench: Bench, root: Path, script: str) -> None:
    """What a kill in the middle of the upload leaves, below `root`."""
    bench.folder.holding.add("upload")
    bench.submit(script)
    assert bench.folder.reached.wait(SECONDS)
    shutil.copytree(bench.root, root)
    bench.folder.holding.clear()
    bench.ended()


def test_a_shutdown_keeps_the_model_of_a_job_that_trains(bench: Bench) -> None:
    bench.submit(SAVES + STAYS)
    bench.until_logged("ready")
    bench.supervisor.shutdown()
    assert bench.job().life.failure_reason == f"{INTERNAL_ERROR} {SHUTDOWN_NOTICE}"
    assert weights(bench) == "weights\n"


def test_a_crash_of_the_emulator_keeps_the_model(bench: Bench) -> None:
    bench.folder.broken.add("upload crash")
    bench.submit(SAVES)
    assert bench.ended().life.failure_reason == INTERNAL_ERROR
    assert weights(bench) == "weights\n"


def test_a_kill_during_the_upload_makes_it_again(bench: Bench, tmp_path: Path) -> None:
    after = tmp_path.with_name(f"{tmp_path.name}-after")
    killed(bench, after, SAVES)
    started = Bench(after)
    started.supervisor.recover()
    job = started.ended()
    assert statuses(job) == [*ONCE, "Uploading", "Completed"]
    assert job.artifacts
    assert (started.folder.root / "job/algo-1/weights").read_text() == "weights\n"
    assert started.lines()[-1] == RESTART_NOTICE
    assert not started.context.job_directory(started.job().spec).exists()


def test_a_kill_while_a_job_was_being_stopped_ends_it_as_stopped(
    bench: Bench, tmp_path: Path
) -> None:
    after = tmp_path.with_name(f"{tmp_path.name}-after")
    bench.submit(f"{SAVES} trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done")
    bench.until_logged("ready")
    bench.supervisor.stop(job_id(SCOPE, "job"))
    bench.until(Phase.STOPPING)
    shutil.copytree(bench.root, after)
    started = Bench(after)
    started.supervisor.recover()
    job = started.ended()
    assert statuses(job) == [*ONCE, "Stopping", "Uploading", "Stopped"]
    assert (job.life.status, job.life.failure_reason) == (Status.STOPPED, None)
    assert (started.folder.root / "job/algo-1/weights").read_text() == "weights\n"
    assert started.lines()[-1] == RESTART_NOTICE
    assert not started.context.job_directory(job.spec).exists()


class ForeignJournal(NoSyncs):
    def rescue(self, spec: WorkloadSpec, instances: Instances) -> None:  # noqa: ARG002
        raise KeyError("known")


def test_the_emulator_starts_whatever_a_job_has_left(bench: Bench, tmp_path: Path) -> None:
    after = tmp_path.with_name(f"{tmp_path.name}-after")
    killed(bench, after, SAVES)
    shutil.rmtree(after / "logs")
    (after / "logs").write_text("no directory: nothing can be written there")
    started = Bench(after, syncs=ForeignJournal())
    started.supervisor.recover()
    assert started.ended().life.status is Status.FAILED
    directory = started.context.job_directory(started.job().spec)
    assert not directory.exists()
    assert [path.name.split(".")[0] for path in directory.parent.iterdir()] == ["job"]


class FullDisk:
    """A database that takes nothing while `full`."""

    def __init__(self, store: JobStore, monkeypatch: pytest.MonkeyPatch):
        self.full = threading.Event()
        self.refused = threading.Event()
        for name in ("change", "update"):
            monkeypatch.setattr(store, name, self._unless_full(getattr(store, name)))

    def _unless_full(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            if self.full.is_set():
                self.refused.set()
                raise sqlite3.OperationalError("database or disk is full")
            return write(*arguments)

        return guarded


def test_a_job_that_met_a_full_disk_ends_when_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(bench.store, monkeypatch)
    bench.submit(STAYS.replace("''", "'exit 0'"))
    bench.until_logged("ready")
    bench.until(Phase.RUNNING)
    disk.full.set()
    bench.context.runtimes.all[0].last.kill()  # type: ignore[attr-defined]
    assert disk.refused.wait(SECONDS)
    bench.eventually(lambda: not bench.context.job_directory(bench.job().spec).exists())
    disk.full.clear()
    reason = bench.ended().life.failure_reason
    assert reason
    assert reason.startswith("ClientError: No space left on device: the database")


def test_a_name_is_taken_until_the_job_has_been_put_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_PUT_AWAY_SECONDS", 0.0)
    bench.folder.holding.add("close")
    bench.submit("true")
    bench.until(Phase.COMPLETED)
    with pytest.raises(ResourceInUse, match="still being removed"):
        bench.supervisor.delete(job_id(SCOPE, "job"))
    bench.folder.holding.clear()
    bench.ended()
    bench.supervisor.delete(job_id(SCOPE, "job"))


def test_a_job_without_a_thread_waits_for_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_AGAIN_SECONDS", 0.1)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        bench.submit("true")
    assert bench.job().life.phase is Phase.PENDING
    bench.submit("true", "other")
    for name in ("job", "other"):
        bench.until(Phase.COMPLETED, name)


def test_when_a_crash_is_seen_nothing_runs_and_no_output_is_missing(bench: Bench) -> None:
    def crash(timeout: float) -> None:
        raise RuntimeError("a bug")

    bench.folder.holding.add("close")
    bench.submit("printf 'ready\\nhalf a line'; exec sleep 300")
    bench.until_logged("ready")
    fleet = bench.context.runtimes.all[0].last  # type: ignore[attr-defined]
    fleet.next_exit = crash
    bench.until(Phase.FAILED)
    assert "half a line" in bench.lines()
    assert fleet.alive() == 0


def test_what_cannot_be_removed_does_not_keep_the_rest(bench: Bench) -> None:
    def refuse() -> None:
        raise RuntimeError("the engine does not answer")

    bench.submit("echo ready; read nothing < /dev/null; exec sleep 300")
    bench.until_logged("ready")
    fleet = bench.context.runtimes.all[0].last  # type: ignore[attr-defined]
    fleet.close = refuse
    bench.supervisor.stop(job_id(SCOPE, "job"))
    job = bench.ended()
    assert job.life.status is Status.STOPPED
    assert not bench.context.job_directory(job.spec).exists()


@pytest.mark.parametrize("phase", ["stage", "upload"])
def test_a_full_disk_is_named_with_where_and_not_retried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/state/jobs/file")

    monkeypatch.setattr(bench.folder, phase, full)
    bench.submit(SAVES, RetryStrategy={"MaximumRetryAttempts": 3})
    job = bench.ended()
    assert job.life.failure_reason == "ClientError: No space left on device: /state/jobs/file"
    assert job.life.attempts == 1
    assert job.life.failure_reason in bench.lines()


def test_a_full_disk_of_the_object_store_is_not_retried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        error = InternalServerError("Upload failed: No space left on device: /objects. Kept in /k.")
        error.no_space = "No space left on device: /objects"
        raise error

    monkeypatch.setattr(bench.folder, "upload", full)
    bench.submit(SAVES, RetryStrategy={"MaximumRetryAttempts": 3})
    job = bench.ended()
    reason = "ClientError: Upload failed: No space left on device: /objects. Kept in /k."
    assert (job.life.failure_reason, job.life.attempts) == (reason, 1)
