"""Which jobs run: lets them in, stops them, and settles those a former process left."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from emulator.drivers.base import Lasting
from emulator.model.claim import Claim
from emulator.model.errors import (
    ApiError,
    JobError,
    ResourceInUse,
    ValidationError,
)
from emulator.model.lifecycle import WITH_INSTANCES, Phase, Status
from emulator.model.record import Job
from emulator.model.run_record import Reason
from emulator.model.warm_pool import PoolStatus
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.placement.leases import Lease
from emulator.placement.ledger import priority
from emulator.workloads.run.backlog import Backlog
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.recovery import (
    Resumed,
    holds_nothing,
    remove_leftovers,
    run_of,
)
from emulator.workloads.run.refusals import refuse_nul
from emulator.workloads.run.runner import JobRun
from emulator.workloads.run.settling import end_as_lost, end_in_time, end_waiting
from emulator.workloads.run.timers import Timers
from emulator.workloads.warm_pools import WarmPools, WithPeriod

_SHUTDOWN_SECONDS = 30.0
_QUIET_SECONDS = 1.0
"""A shutdown that takes longer says what it waits for."""
_PUT_AWAY_SECONDS = 30.0
_AGAIN_SECONDS = 5.0
CONTENDERS = 100
"""Jobs that wait for capacity in threads of their own; back-fill looks at so many."""
_log = logging.getLogger(__name__)


class Supervisor:
    """Runs every job in a thread of its own, but for those far behind in the queue."""

    def __init__(self, context: RunContext):
        self._context = context
        self._timers = Timers(context.clock.monotonic)
        self._pools = WarmPools(
            context.store,
            context.clock,
            self._timers,
            context.pool_directory,
            context.capacity.release,
            context.runtimes.vacate,
        )
        self._lock = Lock()
        self._running: dict[WorkloadId, tuple[CancelToken, Thread]] = {}
        self._contenders: set[WorkloadId] = set()
        """Those of them that wait for capacity."""
        self._backlog = Backlog()
        """Jobs that wait without a thread, behind the contenders."""
        self._closing = Event()
        self._leaves = context.leaves_instances

    def submit(self, spec: WorkloadSpec) -> Job:
        """Take a job in and start it; raises ApiError when it is refused."""
        refuse_nul(spec.request)
        try:
            chosen = self._context.runtimes.of(spec.image)
            chosen.runtime.check(spec.image, len(spec.hosts), spec.network_isolation)
        except JobError as error:
            raise ValidationError(str(error)) from error
        if spec.needs_image and not chosen.runtime.traits.engine:
            raise ValidationError(
                f"The {spec.label} has no ContainerEntrypoint, and the process runtime has no "
                "image to take one from. Name what to run, such as python3 and a script, or use "
                f"Docker: {chosen.reason or 'this emulator runs processes only'}."
            )
        self._context.inputs.check(spec)
        self._context.outputs.check(spec)
        with self._lock:
            if self._closing.is_set():
                raise ApiError(
                    "The emulator is shutting down.", code="ServiceUnavailable", status=503
                )
            job = self._context.store.create(
                spec, self._context.clock.now(), chosen.runtime.traits.name, chosen.reason
            )
            return self._let_in(job)

    def stop(self, key: WorkloadId) -> Job:
        """Ask a job to stop; raises ValidationError for an unknown job and one that has ended."""
        now = self._context.clock.now()
        job = self._context.store.update(key, lambda job: _stopping(job, now))
        with self._lock:
            token = self._token(key)
            waited = self._backlog.remove(key)
        if waited:
            self._end_held(job.spec, Reason.STOP)
            return self.job(key)
        if token:
            token.stop()
            self._context.capacity.wake()
        return job

    def kill(self, key: WorkloadId) -> Job:
        """Give the instances of a job that is being stopped no more time.

        Raises ValidationError for an unknown job and one that nobody has stopped.
        """
        job = self.job(key)
        if job.life.status is not Status.STOPPING:
            raise ValidationError(
                f"The {job.spec.label} is not being stopped: it is {job.life.status.value}."
            )
        with self._lock:
            token = self._token(key)
        if token:
            token.at_once = True
        return job

    def interrupt(self, key: WorkloadId, away: float = 0) -> Job:
        """Take a spot job's instances away; there are new ones after `away` seconds.

        Raises ValidationError for an unknown job, one on demand, and one without instances.
        """
        job = self.job(key)
        with self._lock:
            token = self._token(key)
        if not job.spec.spot:
            raise ValidationError(f"The {job.spec.label} is not a managed spot training job.")
        if token is None or job.life.phase not in (Phase.DOWNLOADING, Phase.RUNNING):
            raise ValidationError(
                f"The {job.spec.label} has no instances that could be taken away: "
                f"it is {job.spec.kind.phase_name(job.life.phase)}."
            )
        token.interrupt(away)
        return job

    def backlog(self) -> list[WorkloadId]:
        """The jobs behind those that `capacity` knows to wait, in order."""
        with self._lock:
            return self._backlog.line()

    def move_first(self, key: WorkloadId) -> None:
        """Let a job start before all others that wait.

        Raises ValidationError for an unknown job and one that does not wait for capacity.
        """
        job = self.job(key)
        with self._lock:
            if self._backlog.remove(key) and not self._contend(job, job):
                self._hold(job, priority(job.spec))
        if not self._context.capacity.move_first(job.spec.arn):
            raise ValidationError(f"The {job.spec.label} does not wait for capacity.")

    def update_keep_alive(self, key: WorkloadId, keep_alive: int, step: WithPeriod) -> Job:
        """Keep its instances for another time after its end; 0 ends a pool that is available.

        Raises ValidationError for an unknown job, and one whose pool is over or never was.
        """
        return self._pools.update(key, keep_alive, step)

    def delete(self, key: WorkloadId) -> Job:
        """Forget a job that has ended; its name can be used again.

        Raises ValidationError for an unknown job, ResourceInUse for one that has not ended or
        has an available warm pool (API reference).
        """
        job = self.job(key)
        ended = job.life.status.terminal
        # Its directory has the name that the next job may take.
        if ended and not self.wait(key, _PUT_AWAY_SECONDS):
            raise ResourceInUse(
                f"The {job.spec.label} cannot be deleted yet: what it has left is still "
                "being removed."
            )
        return self._context.store.delete(key, _refuse_deletion)

    def _token(self, key: WorkloadId) -> CancelToken | None:
        """Only under the lock. Of a job that has a thread."""
        running = self._running.get(key)
        return running and running[0]

    def job(self, key: WorkloadId) -> Job:
        """The job as it stands; raises ValidationError when there is none."""
        job = self._context.store.get(key)
        if job is None:
            raise ValidationError(self._context.store.not_found(key))
        return job

    def wait(self, key: WorkloadId, timeout: float) -> bool:
        """Wait for a job to end and be put away; False when `timeout` seconds were too short.

        One in the backlog is not waited for.
        """
        with self._lock:
            _, thread = self._running.get(key, (None, None))
            if key in self._backlog:
                return False
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def running(self) -> int:
        """How many jobs have not ended."""
        with self._lock:
            return len(self._running) + len(self._backlog)

    def recover(self, beside: Mapping[str, Claim] | None = None) -> Mapping[str, Lease]:
        """Go on with the jobs that an earlier process left unfinished; call it once, at start.

        Instances that still run are taken over, with what they hold. Jobs that had nothing yet
        wait on, and those whose instances are gone go on or end as recovery.py says. `beside` are
        instances of others, by what `Claim.arn` says: they stay, and their leases are returned.
        """
        beside = beside or {}
        context = self._context
        lasting = {
            runtime.traits.name: runtime
            for runtime in context.runtimes.all
            if isinstance(runtime, Lasting)
        }
        unfinished = context.store.unfinished()
        runs = {
            job.spec.arn: run
            for job in unfinished
            if job.life.phase in WITH_INSTANCES
            and (run := run_of(job, context.job_directory(job.spec)))
            and run.runtime in lasting
        }
        self._pools.settle([Path(run.cache) for run in runs.values() if run.cache])
        if not context.keep_directories:
            remove_leftovers(
                context.directory, {context.job_directory(job.spec) for job in unfinished}
            )
        waiting = [job for job in unfinished if holds_nothing(job.life)]
        leases = context.capacity.recover(
            (*beside.values(), *(job.spec for job in unfinished if job.spec.arn in runs)),
            (job.spec for job in waiting),
        )
        for runtime in lasting.values():
            runtime.clean(keep={*beside, *runs})
        for job in unfinished:
            if run := runs.get(job.spec.arn):
                self._go_on(job, Resumed(run, leases[job.spec.arn]))
        for job in waiting:
            with self._lock:
                self._let_in(job, before=job)
        for job in unfinished:
            if job.spec.arn not in runs and not holds_nothing(job.life):
                self._go_on(job)
        return {arn: leases[arn] for arn in beside}

    def leave_no_job(self) -> None:
        """At the shutdown end all jobs, whatever RunContext.leaves_instances says."""
        self._leaves = False

    def shutdown(self, timeout: float = _SHUTDOWN_SECONDS) -> None:
        """End or leave all running jobs, and wait for that; new ones are refused.

        Those whose instances end with this process fail; see RunContext.leaves_instances.
        """
        with self._lock:
            self._closing.set()
            running = list(self._running.values())
        for token, _ in running:
            token.shut_down(self._leaves)
        self._context.runtimes.stop_waiting()
        self._context.capacity.wake()
        late = self._join([thread for _, thread in running], _QUIET_SECONDS)
        if late:
            names = ", ".join(thread.name for thread in late)
            _log.info("Waiting up to %.0f s for the end of %s", timeout, names)
        for thread in self._join(late, timeout):
            _log.warning("%s did not end in time", thread.name)
        self._tell_left()
        self._pools.close()
        self._timers.close()

    def _join(self, threads: list[Thread], timeout: float) -> list[Thread]:
        """Wait for the end of threads; returns those that were too late."""
        deadline = self._context.clock.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - self._context.clock.monotonic()))
        return [thread for thread in threads if thread.is_alive()]

    def _tell_left(self) -> None:
        """Say how many jobs go on, and how to get back to them."""
        context = self._context
        if not self._leaves:
            return
        left = sum(
            job.life.phase in WITH_INSTANCES
            and run_of(job, context.job_directory(job.spec)) is not None
            for job in context.store.unfinished()
        )
        if left:
            jobs = "1 job goes" if left == 1 else f"{left} jobs go"
            _log.info("%s on; the next start on this state directory takes over", jobs)

    def _let_in(self, job: Job, before: Job | None = None) -> Job:
        """Only under the lock. Start a job that waits for capacity, or put it into the backlog.

        `before`: as an earlier emulator left it. A job that was moved up passes the backlog.
        """
        rank = priority(job.spec)
        full = len(self._contenders) >= CONTENDERS or len(self._backlog)
        if (not full or rank > 0) and self._contend(job, before):
            return job
        return self._hold(job, rank)

    def _contend(self, job: Job, before: Job | None) -> bool:
        """Only under the lock. Let a job wait in a thread; False where there can be no more."""
        self._contenders.add(job.spec.id)
        self._context.capacity.enqueue(job.spec)
        if self._start(job.spec, CancelToken(), before=before):
            return True
        self._contenders.discard(job.spec.id)
        self._context.capacity.withdraw(job.spec)
        return False

    def _hold(self, job: Job, rank: int) -> Job:
        """Only under the lock. Let a job wait without a thread."""
        spec, now = job.spec, self._context.clock.now()
        if job.life.phase is Phase.STARTING:
            job = self._say_pending(job, now)
        entry = self._backlog.add(spec.id, rank)
        limits: list[tuple[float | None, float, Reason]]
        limits = [(spec.max_wait, job.life.created, Reason.MAX_WAIT)]
        if job.life.phase is Phase.PENDING:
            since = job.life.transitions[-1].started
            limits.append((spec.max_pending, since, Reason.MAX_PENDING))
        for limit, since, reason in limits:
            if limit is not None:
                expire = partial(self._expire, spec.id, reason)
                left = max(0.0, since + limit - now)
                entry.timers.append(self._timers.after(left, expire))
        if not self._contenders:  # whose end would let it go on: threads have run out
            self._timers.after(_AGAIN_SECONDS, self._advance)
        return job

    def _say_pending(self, job: Job, now: float) -> Job:
        """The job waits all the same where a full disk does not take that."""
        spec = job.spec
        try:
            return self._context.store.change(
                spec.id,
                lambda life: life.enter(Phase.PENDING, spec.words.pending, now),
            )
        except sqlite3.Error as error:
            _log.warning("%s: it is not shown as Pending: %s", spec.label, error)
            return job

    def _expire(self, key: WorkloadId, reason: Reason) -> None:
        with self._lock:
            waited = self._backlog.remove(key)
        if waited:
            self._end_held(self.job(key).spec, reason)

    def _end_held(self, spec: WorkloadSpec, reason: Reason) -> None:
        """End a job that has left the backlog, later where the disk is full."""
        try:
            end_waiting(self._context, spec, reason)
        except sqlite3.Error as error:
            _log.warning("%s: its end cannot be noted yet: %s", spec.label, error)
            self._timers.after(_AGAIN_SECONDS, partial(self._end_held, spec, reason))

    def _advance(self) -> None:
        """Let jobs of the backlog wait in threads, as many as may."""
        with self._lock:
            while len(self._contenders) < CONTENDERS and not self._closing.is_set():
                entry = self._backlog.pop()
                if entry is None:
                    return
                job = self._context.store.get(entry.key)
                if job is None or job.life.status.terminal:
                    continue
                if job.life.stop_requested:  # whoever stops it does not find it any more
                    self._end_held(job.spec, Reason.STOP)
                    continue
                if not self._contend(job, job):
                    self._hold(job, -entry.before)
                    return

    def _has_begun(self, key: WorkloadId) -> None:
        """A job waits for capacity no more, or has ended."""
        with self._lock:
            if key not in self._contenders:
                return
            self._contenders.discard(key)
        self._advance()

    def _go_on(self, job: Job, resumed: Resumed | None = None) -> None:
        """Start a job of an earlier emulator: with the instances it has, or to wait for some."""
        how = "waits on" if holds_nothing(job.life) else "recovered without its instances"
        _log.info("%s: %s", job.spec.label, "taken over" if resumed else how)
        token = CancelToken()
        if job.life.stop_requested:
            run = run_of(job, self._context.job_directory(job.spec))
            token.stop((run and run.reason) or Reason.STOP)
        with self._lock:
            started = self._start(job.spec, token, resumed, job)
        if not started:
            # Its instances, if any, go with the next start, and hold their GPUs until then.
            end_as_lost(self._context, job.spec)

    def _start(
        self,
        spec: WorkloadSpec,
        token: CancelToken,
        resumed: Resumed | None = None,
        before: Job | None = None,
    ) -> bool:
        """Only under the lock. False where there can be no more threads."""
        thread = Thread(
            target=self._run,
            args=(spec, token, resumed, before),
            name=f"job-{spec.name}",
            daemon=True,
        )
        self._running[spec.id] = (token, thread)
        try:
            thread.start()
        except RuntimeError:
            _log.exception("%s: it has no thread", spec.label)
            del self._running[spec.id]
            return False
        return True

    def _run(
        self, spec: WorkloadSpec, token: CancelToken, resumed: Resumed | None, before: Job | None
    ) -> None:
        try:
            begun = partial(self._has_begun, spec.id)
            JobRun(
                self._context, spec, token, self._timers, self._pools, resumed, before, begun
            ).run()
        except Exception as error:  # noqa: BLE001 - the top of the job's thread
            # Not even its end could be written down. It holds nothing any more.
            _log.exception("%s: lost", spec.label)
            end_in_time(self._context, spec, self._closing, error)
        finally:
            with self._lock:
                # Never the entry of another job that has the name by now.
                if self._token(spec.id) is token:
                    del self._running[spec.id]
                    self._context.capacity.withdraw(spec)
            self._has_begun(spec.id)


def _stopping(job: Job, now: float) -> Job:
    if job.life.status.terminal:
        raise ValidationError(
            f"The request was rejected because the {job.spec.kind.noun} is in status "
            f"{job.life.status.value}."
        )
    return replace(job, life=job.life.request_stop(now))


def _refuse_deletion(job: Job) -> None:
    if not job.life.status.terminal:
        raise ResourceInUse(
            f"The {job.spec.label} cannot be deleted: it is in status {job.life.status.value}."
        )
    if job.warm_pool and job.warm_pool.status is PoolStatus.AVAILABLE:
        raise ResourceInUse(
            f"The {job.spec.label} cannot be deleted: it retains a warm pool that is Available."
        )
