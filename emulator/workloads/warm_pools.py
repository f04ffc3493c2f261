"""Warm pools: what is kept of a job's instances, for how long, and who takes it over.

As on the service the instances stay and the container of each job is new: the GPUs stay leased,
the directory that scripts see as /opt/ml/sagemaker/warmpoolcache stays as it is, input data stays
in the cache, and so does what the runtime keeps (see Keeps in drivers/base.py): containers' places
on a network of their own.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import TypeAlias

from emulator.model.errors import ValidationError
from emulator.model.plan import JobPlan, Mount
from emulator.model.record import Job
from emulator.model.warm_pool import WarmPool
from emulator.model.workload import PoolKey, WorkloadId, WorkloadSpec
from emulator.placement.leases import Lease
from emulator.workloads.run.clock import Clock
from emulator.workloads.run.context import nothing
from emulator.workloads.run.directories import remove_directory
from emulator.workloads.run.timers import Timer, Timers
from emulator.workloads.store.runs import JobStore

WithPeriod: TypeAlias = Callable[[WorkloadSpec, int], WorkloadSpec]
"""Makes of a spec one that asks for so many seconds."""

WARM_CACHE = "/opt/ml/sagemaker/warmpoolcache"
"""The persistent cache of a warm pool (developer guide)."""
_HAND_OVER_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_RECORD_AGAIN_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """What one job leaves to the next."""

    owner: str
    """The label of the job that left it."""
    cache: Path
    """Has one directory an instance."""
    lease: Lease | None = None
    """The GPUs, if there are any."""
    release_data: Callable[[], None] = nothing
    """Lets the input data go as soon as its place is needed; it may be called again."""

    @property
    def note(self) -> str:
        """What the next job's log says about it."""
        what = "GPUs and cache directories" if self.lease else "cache directories"
        return f"Warm pool of {self.owner}: {what} ({WARM_CACHE}) are reused."


@dataclass
class Pool:
    """A pool that a job which has ended left."""

    spec: WorkloadSpec
    key: PoolKey
    ready: Event = field(default_factory=Event)
    """Its job has been put away: what is kept can be handed over."""
    kept: Kept | None = None
    ended: bool = False
    """Nobody takes it any more."""
    timer: Timer | None = None

    def take(self) -> Kept | None:
        """What is kept, for one caller alone; only under the lock of the pools."""
        kept, self.kept = self.kept, None
        return kept


class WarmPools:
    """The available pools. Any thread may use them; the store knows how each one ended."""

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        timers: Timers,
        directory: Path,
        release: Callable[[Lease], None],
        vacate: Callable[[str], None] = lambda _: None,
    ):
        """`directory` is for the pools alone; `release` gives the GPUs of a pool back.

        `vacate` removes what runtimes keep of the pool of that name (JobPlan.pool).
        """
        self._store = store
        self._clock = clock
        self._timers = timers
        self._directory = directory
        self._release = release
        self._vacate = vacate
        self._lock = Lock()
        self._pools: dict[str, Pool] = {}
        """By the ARN of the job that left it, oldest first."""

    def settle(self, keep: Collection[Path] = ()) -> None:
        """At start: the pools of an earlier process are gone with it, but for some caches."""
        for job in self._store.with_open_pools():
            if job.life.status.terminal:
                self._mark(job.spec, lambda pool, now: pool.end(now))
        for cache in self._directory.glob("*"):
            if cache not in keep:
                remove_directory(cache)

    def new_cache(self) -> Path:
        """Where a new pool keeps its instances' cache directories."""
        return self._directory / uuid.uuid4().hex

    def take(
        self, spec: WorkloadSpec, cancelled: Callable[[], bool] = lambda: False
    ) -> Kept | None:
        """Hand the oldest pool that fits to a job; the pool is Reused from now on.

        The job goes without one, soon after `cancelled()` turned true, and where the database
        does not take the change: then the pool stays for others.
        """
        key = spec.pool_key
        if key is None:
            return None
        with self._lock:
            pool = next((pool for pool in self._pools.values() if pool.key == key), None)
            if pool is None:
                return None
            try:
                self._hand_over(pool.spec, spec.name)
            except sqlite3.Error as error:
                _log.warning("%s: no warm pool: %s", spec.label, error)
                return None
            self._drop(pool)
        # The former job has ended, but its instances may be being removed at this moment.
        deadline = self._clock.monotonic() + _HAND_OVER_SECONDS
        while not pool.ready.wait(_LOOK_SECONDS):
            if cancelled() or self._clock.monotonic() >= deadline:
                break
        with self._lock:
            # Too late for this job, if there is nothing: what still comes is given back.
            pool.ended = True
            return pool.take()

    def offer(self, spec: WorkloadSpec, finish: Callable[[], Job]) -> Pool | None:
        """A job ends, by `finish`, which gives its record; then its pool can be taken.

        None where the job leaves no pool.
        """
        with self._lock:
            job, key = finish(), spec.pool_key
            if job.warm_pool is None or job.warm_pool.over or key is None:
                return None
            pool = self._pools[spec.arn] = Pool(spec, key)
            self._set_timer(pool, job.warm_pool.keep_alive)
            return pool

    def fill(self, pool: Pool, kept: Kept) -> None:
        """Tell what a pool has, once its job has been put away."""
        with self._lock:
            ended = pool.ended
            if not ended:
                pool.kept = kept
            pool.ready.set()
        if ended:
            self.give_back(kept)

    def give_back(self, kept: Kept) -> None:
        """Nobody keeps these any more."""
        with ExitStack() as left:  # the last one first; what one raises is no other's affair
            left.callback(remove_directory, kept.cache)
            left.callback(kept.release_data)
            left.callback(self._vacate, kept.cache.name)
            if kept.lease:
                left.callback(self._release, kept.lease)

    def update(self, key: WorkloadId, keep_alive: int, step: WithPeriod) -> Job:
        """Keep the instances for another time, in seconds; 0 ends an available pool.

        `step` makes of the spec one that asks for that time.

        Raises ValidationError for an unknown job and one whose pool is over or never was.
        """
        with self._lock:
            job = self._store.update(key, lambda job: _with_period(job, keep_alive, step))
            pool, warm = self._pools.get(job.spec.arn), job.warm_pool
            if pool and warm and warm.expires is not None:
                self._set_timer(pool, warm.expires - self._clock.now())
        if keep_alive == 0:
            self.end(job.spec)
        return self._store.get(key) or job

    def end(self, spec: WorkloadSpec) -> None:
        """The pool that this job left is Terminated; nothing happens if it is over."""
        with self._lock:
            pool = self._pools.get(spec.arn)
            if pool is None:
                return
            self._drop(pool)
            pool.ended = True
            kept = pool.take()
            self._record_end(spec)
        if kept:
            self.give_back(kept)

    def close(self) -> None:
        """End all pools."""
        with self._lock:
            left = [pool.spec for pool in self._pools.values()]
        for spec in left:
            self.end(spec)

    def _drop(self, pool: Pool) -> None:
        del self._pools[pool.spec.arn]
        if pool.timer:
            pool.timer.cancel()

    def _set_timer(self, pool: Pool, seconds: float) -> None:
        if pool.timer:
            pool.timer.cancel()
        pool.timer = self._timers.after(max(0.0, seconds), lambda: self.end(pool.spec), slow=True)

    def _record_end(self, spec: WorkloadSpec) -> None:
        """Write it down, later if need be: the GPUs must not wait for a full disk."""
        try:
            self._mark(spec, lambda warm, now: warm.end(now))
        except sqlite3.Error as error:
            _log.warning("%s: its pool's end is not recorded: %s", spec.label, error)
            self._timers.after(_RECORD_AGAIN_SECONDS, lambda: self._record_end(spec))
        except ValidationError:
            return  # the job was deleted meanwhile

    def _hand_over(self, spec: WorkloadSpec, to: str) -> None:
        now = self._clock.now()
        told = f"Resource reused by {spec.kind.noun}: {to}"  # seen
        self._store.update(
            spec.id,
            lambda job: replace(
                job,
                life=job.life.reused(told, now),
                warm_pool=job.warm_pool and job.warm_pool.reuse(to, now),
            ),
        )

    def _mark(self, spec: WorkloadSpec, step: Callable[[WarmPool, float], WarmPool]) -> None:
        now = self._clock.now()
        self._store.update(
            spec.id,
            lambda job: replace(job, warm_pool=job.warm_pool and step(job.warm_pool, now)),
        )


def in_pool(plan: JobPlan, cache: Path) -> JobPlan:
    """The plan on instances of a pool, each with its directory below `cache`. Raises OSError."""
    mounts = {host: Mount(cache / host, WARM_CACHE) for host in plan.hosts}
    for mount in mounts.values():
        mount.source.mkdir(parents=True, exist_ok=True)
    return replace(
        plan,
        pool=cache.name,
        instances=tuple(
            replace(one, mounts=(*one.mounts, mounts[one.host])) for one in plan.instances
        ),
    )


def _with_period(job: Job, keep_alive: int, step: WithPeriod) -> Job:
    if job.warm_pool is None or job.warm_pool.over:
        raise ValidationError(
            f"The {job.spec.label} has no warm pool whose KeepAlivePeriodInSeconds could be "
            "updated."
        )
    return replace(
        job,
        spec=step(job.spec, keep_alive),
        warm_pool=replace(job.warm_pool, keep_alive=keep_alive),
    )
