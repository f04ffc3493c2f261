"""What a warm pool keeps goes to one taker, in whatever order things happen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest

from emulator.database import Database
from emulator.model.lifecycle import Phase
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.placement.leases import Lease
from emulator.resources import KINDS
from emulator.resources.training import job_id, training_job
from emulator.workloads import warm_pools
from emulator.workloads.run.clock import Clock
from emulator.workloads.run.timers import Timers
from emulator.workloads.store.runs import MIGRATIONS, JobStore
from emulator.workloads.warm_pools import Kept, Pool, WarmPools

SCOPE = Scope("123456789012", "us-east-1")


def spec(name: str) -> WorkloadSpec:
    request = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
            "KeepAlivePeriodInSeconds": 600,
        },
    }
    return training_job(request, SCOPE)


class Interrupted:
    """A lock after whose n-th release something else happens first."""

    def __init__(self, number: int, then: Callable[[], None]):
        self._lock = Lock()
        self._left = number
        self._then = then

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._left -= 1
        if self._left == 0:
            self._then()


class Place:
    def __init__(self, root: Path):
        self.database = Database(root / "emulator.db", MIGRATIONS)
        self.store = JobStore(self.database, KINDS)
        self.released: list[Lease] = []
        self.timers = Timers(lambda: 0.0)
        self.pools = WarmPools(
            self.store, Clock(), self.timers, root / "pools", self.released.append
        )
        self.kept = Kept("one", root / "pools/cache", Lease("arn", "one"))

    def offered(self) -> Pool:
        one = spec("one")
        self.store.create(one, 1.0)

        def end(job: Job) -> Job:
            life = job.life.finish(Phase.FAILED, one.words.failed, 2.0, "why")
            return replace(job, life=life, warm_pool=job.warm_pool and job.warm_pool.keep(2.0))

        pool = self.pools.offer(one, lambda: self.store.update(job_id(SCOPE, "one"), end))
        assert pool
        return pool

    def after_release(self, number: int, then: Callable[[], None]) -> None:
        """Let something happen right after the lock is given back for the n-th time."""
        self.pools._lock = Interrupted(number, then)  # type: ignore[assignment]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.timers.close()
    place.database.close()


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_pools, "_HAND_OVER_SECONDS", 0.0)


def test_what_comes_too_late_for_its_taker_is_given_back_and_not_used(place: Place) -> None:
    pool = place.offered()
    place.after_release(2, lambda: place.pools.fill(pool, place.kept))
    assert place.pools.take(spec("two")) is None
    assert place.released == [place.kept.lease]


def test_what_comes_in_time_is_used(place: Place) -> None:
    pool = place.offered()
    place.after_release(1, lambda: place.pools.fill(pool, place.kept))
    assert place.pools.take(spec("two")) == place.kept
    assert place.released == []


def test_a_pool_that_is_filled_as_it_ends_is_given_back_once(place: Place) -> None:
    pool = place.offered()
    place.after_release(1, lambda: place.pools.fill(pool, place.kept))
    place.pools.end(spec("one"))
    assert place.released == [place.kept.lease]


class FullDisk:
    """A store whose every change fails, as long as it is full."""

    def __init__(self, store: JobStore):
        self._store = store
        self.full = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def update(self, key: WorkloadId, step: Callable[[Job], Job]) -> Job:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return self._store.update(key, step)


def test_a_pool_whose_taking_is_not_recorded_stays_for_others(place: Place) -> None:
    pool = place.offered()
    place.pools.fill(pool, place.kept)
    disk = place.pools._store = FullDisk(place.store)  # type: ignore[assignment]
    assert place.pools.take(spec("two")) is None
    disk.full = False  # type: ignore[attr-defined]
    assert place.pools.take(spec("three")) == place.kept


def test_a_pool_whose_end_is_not_recorded_gives_its_gpus_back(place: Place) -> None:
    pool = place.offered()
    place.pools.fill(pool, place.kept)
    place.pools._store = FullDisk(place.store)  # type: ignore[assignment]
    place.pools.end(spec("one"))
    assert place.released == [place.kept.lease]


def test_what_fails_as_a_pool_is_given_back_keeps_no_gpu(place: Place) -> None:
    pool = place.offered()

    def broken(_: str) -> None:
        raise OSError("the engine is away")

    place.pools._vacate = broken
    place.pools.fill(pool, place.kept)
    with pytest.raises(OSError, match="away"):
        place.pools.end(spec("one"))
    assert place.released == [place.kept.lease]


def test_a_taker_that_is_stopped_does_not_wait_for_what_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_pools, "_HAND_OVER_SECONDS", 3600.0)
    monkeypatch.setattr(warm_pools, "_LOOK_SECONDS", 0.0)
    pool = place.offered()
    asked = iter((False, False, True))
    assert place.pools.take(spec("two"), lambda: next(asked)) is None
    place.pools.fill(pool, place.kept)
    assert place.released == [place.kept.lease]
