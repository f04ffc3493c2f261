# ruff: noqa: ARG002 - the parts here do not need all they are told
"""Instances that outlived an emulator, and that the next one cannot take over."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest
from job_bench import INTERNAL_ERROR, SCOPE, Bench, LocalRuntime, statuses

from emulator.drivers.base import LeavableFleet, OutputSink
from emulator.drivers.choice import Runtimes
from emulator.model.errors import InternalServerError
from emulator.model.lifecycle import Phase
from emulator.model.plan import Exit, RuntimeTraits
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import job_id
from emulator.workloads.run import attempt
from emulator.workloads.run.context import Instances, NoSyncs

TRAINS = 'echo weights > "$MODEL/weights"; echo ready; while :; do sleep 0.05; done'


class Lasting(LocalRuntime):
    """Its instances are said to go on; `adopting` is what becomes of a take-over."""

    traits = RuntimeTraits("lasting", "lo", "http://127.0.0.1:4570")

    def __init__(self, log: list[str], adopting: Callable[[], LeavableFleet | None]):
        super().__init__()
        self._log = log
        self._adopting = adopting

    def adopt(
        self, arn: str, sink: OutputSink, received: Mapping[str, int] | None = None
    ) -> LeavableFleet | None:
        self._log.append("adopt")
        return self._adopting()

    def remove(self, arn: str) -> None:
        self._log.append(f"remove {arn}")

    def clean(self, keep: Collection[str] = ()) -> None:
        self._log.append(f"spare {len(keep)}")


class Rescues(NoSyncs):
    """`broken`: what is there cannot be saved."""

    def __init__(self, log: list[str], broken: bool):
        self._log = log
        self._broken = broken

    def rescue(self, spec: WorkloadSpec, instances: Instances) -> None:
        self._log.append(f"rescue {len(instances)}")
        if self._broken:
            raise KeyError("known")


def gone() -> None:
    """Not all containers are there."""


def silent() -> None:
    raise InternalServerError("The Docker engine does not answer")


def crashes() -> None:
    raise RuntimeError("a bug")


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Path]:
    """What a kill during the training leaves, without its instances."""
    bench = Bench(tmp_path, runtimes=Runtimes(None, Lasting([], gone)))
    bench.submit(TRAINS)
    bench.until_logged("ready")
    bench.until(Phase.RUNNING)
    after = tmp_path.with_name(f"{tmp_path.name}-after")
    shutil.copytree(tmp_path, after)
    yield after
    bench.context.runtimes.all[0].last.kill()  # type: ignore[attr-defined]
    bench.supervisor.shutdown()


@pytest.mark.parametrize("adopting", [gone, silent, crashes])
@pytest.mark.parametrize("broken", [False, True])
def test_nothing_of_it_runs_on_and_what_it_saved_stays(
    left: Path, adopting: Callable[[], LeavableFleet | None], broken: bool
) -> None:
    log: list[str] = []
    # The image would run elsewhere by now.
    runtimes = Runtimes(LocalRuntime(), Lasting(log, adopting))
    bench = Bench(left, runtimes=runtimes, syncs=Rescues(log, broken))
    try:
        bench.supervisor.recover()
        job = bench.ended()
    finally:
        bench.supervisor.shutdown()
    assert log == ["spare 1", "adopt", f"remove {job.spec.arn}", "rescue 1"]
    assert job.life.phase is Phase.FAILED
    assert (job.life.failure_reason == INTERNAL_ERROR) is (adopting is not silent)
    directory = bench.context.job_directory(job.spec)
    assert not directory.exists()
    aside = [path for path in directory.parent.iterdir() if path.name.startswith("job.")]
    assert len(aside) == broken
    kept = aside[0] if broken else left
    (weights,) = (path for path in kept.rglob("weights") if "model" in str(path) or not broken)
    assert weights.read_text() == "weights\n"


class Ending:
    """A fleet whose one instance ends with 0 as soon as somebody looks."""

    left = False

    def next_exit(self, timeout: float) -> Exit | None:
        return Exit("algo-1", 0, time.time())

    def terminate(self) -> None: ...

    def kill(self, host: str | None = None) -> None: ...

    def close(self) -> None: ...

    def leave(self) -> None:
        self.left = True


class FailingFirst(NoSyncs):
    """The journal cannot be read at first."""

    def __init__(self) -> None:
        self._failures = [sqlite3.OperationalError("database or disk is full"), OSError("busy")]

    def resume(self, spec: WorkloadSpec, instances: Instances) -> NoSyncs:
        if self._failures:
            raise self._failures.pop()
        return self


def full() -> LeavableFleet:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_FIRST_PAUSE", 0.01)


@pytest.mark.usefixtures("at_once")
def test_trouble_of_the_emulators_own_ends_no_instance(left: Path) -> None:
    log: list[str] = []
    answers = iter([full, full, Ending])
    lasting = Lasting(log, lambda: next(answers)())
    bench = Bench(left, runtimes=Runtimes(None, lasting), syncs=FailingFirst())
    try:
        bench.supervisor.recover()
        job = bench.ended()
    finally:
        bench.supervisor.shutdown()
    assert log == ["spare 1", "adopt", "adopt", "adopt"]
    assert statuses(job)[-2:] == ["Uploading", "Completed"]
    assert (left / "s3/job/algo-1/weights").read_text() == "weights\n"


def test_a_shutdown_before_the_take_over_leaves_the_instances(left: Path) -> None:
    log: list[str] = []
    bench = Bench(left, runtimes=Runtimes(None, Lasting(log, full)))
    bench.supervisor.recover()
    bench.eventually(lambda: "adopt" in log)
    bench.supervisor.shutdown()
    assert bench.job().life.phase is Phase.RUNNING
    assert log == ["spare 1", "adopt"]
    after = Bench(left, runtimes=Runtimes(None, Lasting(log, Ending)))
    try:
        after.supervisor.recover()
        assert after.ended().life.phase is Phase.COMPLETED
    finally:
        after.supervisor.shutdown()


def test_jobs_that_could_go_on_end_where_the_user_wants_that(tmp_path: Path) -> None:
    bench = Bench(tmp_path, runtimes=Runtimes(None, Lasting([], gone)))
    bench.submit(TRAINS)
    bench.until_logged("ready")
    bench.until(Phase.RUNNING)
    bench.supervisor.leave_no_job()
    bench.supervisor.shutdown()
    assert bench.context.runtimes.all[0].last.alive() == 0  # type: ignore[attr-defined]
    assert bench.job().life.failure_reason == f"{INTERNAL_ERROR} {attempt.SHUTDOWN_NOTICE}"
    assert (tmp_path / "kept-job-algo-1/weights").read_text() == "weights\n"


@pytest.mark.usefixtures("at_once")
def test_a_job_that_is_stopped_does_not_wait_for_ever_to_be_taken_over(left: Path) -> None:
    log: list[str] = []
    bench = Bench(left, runtimes=Runtimes(None, Lasting(log, full)), stop_grace=0)
    try:
        bench.supervisor.recover()
        bench.eventually(lambda: "adopt" in log)
        bench.supervisor.stop(job_id(SCOPE, "job"))
        job = bench.ended()
    finally:
        bench.supervisor.shutdown()
    assert log[-1] == f"remove {job.spec.arn}"
    assert job.life.phase is Phase.STOPPED
    assert (left / "s3/job/algo-1/weights").read_text() == "weights\n"
