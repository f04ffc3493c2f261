"""Jobs whose GPUs are unused are marked, and ended where the settings say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from job_examples import named

from emulator.database import Database
from emulator.model.errors import ResourceNotFound, ValidationError
from emulator.model.lifecycle import Phase
from emulator.model.workload import WorkloadId
from emulator.parts import SCHEMA
from emulator.placement.device import DriverProblem, GpuLoad
from emulator.placement.leases import Lease
from emulator.resources import KINDS
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.machine_watch import IdlePolicy, MachineWatch
from emulator.workloads.run.clock import Clock
from emulator.workloads.store.runs import JobStore

JOB = named("Idle-job")


class Place:
    """A machine with one GPU that a job holds; a test tells how busy it is."""

    def __init__(self, root: Path, policy: IdlePolicy):
        self.now = 1000.0
        self.busy: float | None = 90.0
        self.stopped: list[WorkloadId] = []
        self.leases = [Lease(JOB.arn, JOB.name, {"algo-1": ("GPU-0",)})]
        self.database = Database(root / "e.db", SCHEMA)
        self.records = JobStore(self.database, KINDS)
        self.logs = LogStore(root / "logs")
        self.records.create(JOB, self.now)
        self.watch = MachineWatch(
            self.read,
            lambda: self.leases,
            self.stop,
            self.records,
            self.logs,
            policy,
            Clock(now=lambda: self.now),
        )

    def read(self) -> Mapping[str, GpuLoad]:
        if self.busy is None:
            raise DriverProblem("GPU is lost")
        return {"GPU-0": GpuLoad(self.busy, 512)}

    def stop(self, key: WorkloadId) -> None:
        self.stopped.append(key)
        raise ValidationError("it has ended already")

    def enter(self, *phases: Phase) -> None:
        for phase in phases:
            self.records.change(JOB.id, lambda life, to=phase: life.enter(to, "", self.now))

    def look(self, busy: float | None, seconds: float) -> None:
        self.busy = busy
        self.now += seconds
        self.watch.look()

    def lines(self) -> list[str]:
        try:
            names = self.logs.stream_names(JOB.scope, JOB.kind.log_group)
        except ResourceNotFound:
            return []
        pages = [self.logs.forward(JOB.scope, JOB.kind.log_group, name) for name in names]
        return [event.message for page in pages for event in page.events]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, IdlePolicy(120))
    yield made
    made.database.close()


def test_a_job_is_marked_once_and_until_it_works_again(place: Place) -> None:
    place.enter(Phase.DOWNLOADING, Phase.RUNNING)
    place.look(50, 10)
    place.look(0, 10)
    place.look(0, 100)
    assert place.watch.marked() == {}
    place.look(0, 30)
    place.look(0, 30)
    assert place.watch.marked() == {JOB.arn: 1020.0}
    assert place.lines() == ["None of its GPUs has been used for 2 minutes."]
    place.look(80, 2)
    assert place.watch.marked() == {}
    assert place.lines()[1:] == ["Its GPUs are used again."]
    assert place.stopped == []


def test_the_time_in_which_data_comes_does_not_count(place: Place) -> None:
    place.enter(Phase.DOWNLOADING)
    place.look(0, 10)
    place.look(0, 500)
    assert place.watch.marked() == {}
    place.enter(Phase.RUNNING)
    place.look(0, 100)
    assert place.watch.marked() == {}
    place.look(0, 30)
    assert list(place.watch.marked()) == [JOB.arn]


def test_nobody_is_marked_while_the_driver_does_not_answer(place: Place) -> None:
    place.enter(Phase.DOWNLOADING, Phase.RUNNING)
    place.look(0, 10)
    place.look(None, 100)
    place.look(0, 100)
    assert place.watch.marked() == {}
    assert [bool(look.gpus) for look in place.watch.looks()] == [True, False, True]


def test_it_is_stopped_where_the_policy_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path, IdlePolicy(60, stop=True))
    place.enter(Phase.DOWNLOADING, Phase.RUNNING)
    place.look(0, 10)
    place.look(0, 60)
    place.look(0, 60)
    assert place.stopped == [JOB.id]
    assert place.lines() == [
        "None of its GPUs has been used for 60 s: it is stopped (EMULATOR_GPU_IDLE_ACTION)."
    ]
    place.database.close()


def test_nobody_minds_without_a_policy(tmp_path: Path) -> None:
    place = Place(tmp_path, IdlePolicy())
    place.enter(Phase.DOWNLOADING, Phase.RUNNING)
    place.look(0, 10)
    place.look(0, 10_000)
    assert place.watch.marked() == {}
    place.database.close()
