"""One training job's life, from its first attempt to its last status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from emulator.data.objectstore.availability import Availability
from emulator.data.objectstore.objects import Cancelled
from emulator.drivers.base import Unreachable
from emulator.model.errors import (
    AlgorithmError,
    ClientError,
    InternalServerError,
    JobError,
)
from emulator.model.faults import Stage
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.run_record import Cause, Ending, Reason
from emulator.model.workload import WorkloadSpec
from emulator.workloads.run.attempt import SHUTDOWN_NOTICE, Attempt
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.context import RunContext, nothing
from emulator.workloads.run.directories import exit_message, failure_text, has_files
from emulator.workloads.run.outcome import INTERNAL_ERROR, KILLED, STORE_SECONDS, failure_of
from emulator.workloads.run.recovery import Past, Resumed, begins_anew, holds_nothing
from emulator.workloads.run.settling import error_of_crash, stopped
from emulator.workloads.run.status import Progress
from emulator.workloads.run.timers import Timers
from emulator.workloads.warm_pools import Kept, Pool, WarmPools

CRASH_NOTICE = "The emulator failed while it ran this job; its own log says more."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Again:
    """The job needs other instances."""

    away: float = 0
    """Seconds until there are some."""
    since: float | None = None
    """When the job lost its instances, if not now (epoch seconds)."""


class JobRun:
    """Takes one job through its life; `run` is the body of its thread."""

    def __init__(
        self,
        context: RunContext,
        spec: WorkloadSpec,
        token: CancelToken,
        timers: Timers,
        pools: WarmPools,
        resumed: Resumed | None = None,
        before: Job | None = None,
        begun: Callable[[], None] = nothing,
    ):
        """`resumed`: an earlier emulator has started the job's instances; `before`: the job as
        that emulator left it; `begun` is called when it waits for capacity no more."""
        self._context = context
        self._spec = spec
        self._token = token
        self._timers = timers
        self._pools = pools
        self._progress = Progress(context, spec)
        self._resumed = resumed
        self._before = before
        self._begun = begun
        past = Past.of(before.life) if before else Past()
        self._trained = resumed.run.trained if resumed else past.trained
        self._retries = resumed.run.retries if resumed else past.retries
        self._left = False
        """The instances go on without this emulator."""
        self._cache: Path | None = None
        self._latest: Attempt | None = None
        self._pool: Pool | None = None
        """What the job has left behind, once it has ended."""

    def run(self) -> None:
        """The job has ended and holds nothing when this returns, but for its warm pool."""
        limit = self._spec.max_wait
        timer = None if limit is None else self._timers.after(limit - self._age(), self._expire)
        try:
            self._live()
        finally:
            if timer:
                timer.cancel()

    def _age(self) -> float:
        """Seconds since the job was created, be it under an earlier emulator."""
        job = self._context.store.get(self._spec.id)
        return self._context.clock.now() - job.life.created if job else 0.0

    def _live(self) -> None:
        again = self._begin()
        while again and self._comes_back(again):
            self._progress.enter(Phase.STARTING, again.since)
            again = self._attempt(None)

    def _begin(self) -> _Again | None:
        if self._resumed:
            return self._take_over(self._resumed)
        life = self._before.life if self._before else None
        if life and begins_anew(self._spec, life):
            return _Again()
        if life and not holds_nothing(life):
            attempt = Attempt(self._context, self._spec, self._token, self._timers, None)
            return self._carry_out(attempt, attempt.recover)
        if life and life.phase is Phase.INTERRUPTED:
            return _Again()
        first = life is None or life.attempts == 1
        return self._attempt(self._pools.take(self._spec, self._token.calls) if first else None)

    def _expire(self) -> None:
        self._token.stop(Reason.MAX_WAIT)
        self._context.capacity.wake()

    def _attempt(self, kept: Kept | None) -> _Again | None:
        """One set of instances; None when the job has ended with it."""
        self._cache = self._cache_directory(kept)
        attempt = Attempt(self._context, self._spec, self._token, self._timers, kept, self._begun)

        def train() -> Ending:
            attempt.prepare()
            left = self._spec.max_runtime - self._trained
            return attempt.train(left, self._cache, self._trained, self._retries)

        return self._carry_out(attempt, train)

    def _take_over(self, resumed: Resumed) -> _Again | None:
        """The same with instances that run already."""
        self._cache = Path(resumed.run.cache) if resumed.run.cache else None
        attempt = Attempt(self._context, self._spec, self._token, self._timers, None)
        attempt.lease = resumed.lease
        left = self._spec.max_runtime - self._trained
        return self._carry_out(attempt, lambda: attempt.resume(resumed, left, self._cache))

    def _carry_out(self, attempt: Attempt, train: Callable[[], Ending]) -> _Again | None:
        self._latest = attempt
        try:
            ending = self._timed(attempt, train)
            if ending.cause is Cause.LEFT:
                self._left = True
                return None
            if ending.cause is Cause.INTERRUPTED:
                return self._interrupted(ending.away, attempt.died)
            return self._conclude(ending, attempt)
        except Cancelled:
            away = self._token.take_interruption()
            if away is not None and not self._token.end.is_set():
                return self._interrupted(away)
            self._end_early(attempt)
            return None
        except Unreachable as error:
            _log.warning("%s is left to the next emulator: %s", self._spec.label, error)
            self._left = True
            return None
        except JobError as error:
            internal = isinstance(error, InternalServerError)
            full = error_of_crash(self._context, self._spec, error) if internal else None
            return self._fail_or_retry(full or error, attempt)
        except Exception as error:  # noqa: BLE001 - the top of the job's thread
            _log.exception("%s: the emulator failed", self._spec.label)
            full = error_of_crash(self._context, self._spec, error)
            self._progress.notice(str(full) if full else CRASH_NOTICE)
            return self._fail_or_retry(full or InternalServerError(INTERNAL_ERROR), attempt)
        finally:
            self._put_away(attempt)

    def _timed(self, attempt: Attempt, train: Callable[[], Ending]) -> Ending:
        try:
            return train()
        finally:
            self._trained += attempt.trained

    def _interrupted(self, away: float, at: float | None = None) -> _Again:
        _log.info("%s: its spot instances are taken away", self._spec.label)
        self._progress.enter(Phase.INTERRUPTED, at)
        return _Again(away)

    def _comes_back(self, again: _Again) -> bool:
        """Wait for other instances; False when the job has ended before."""
        if not self._token.end.wait(again.away):
            return True
        self._end_early(None)
        return False

    def _fail_or_retry(self, error: JobError, attempt: Attempt) -> _Again | None:
        again = self._retry(error, attempt)
        if again is None:
            self._keep(attempt)
            self._fail(error, attempt.died)
        return again

    def _retry(self, error: JobError, attempt: Attempt) -> _Again | None:
        """RetryStrategy: only what the platform is to blame for is tried again."""
        if not self._may_retry(error) or self._token.end.is_set():
            return None
        self._retries += 1
        _log.info("%s: retry %d after %s", self._spec.label, self._retries, error)
        return _Again(since=attempt.died)

    def _may_retry(self, error: JobError) -> bool:
        return (
            isinstance(error, InternalServerError)
            and self._retries < self._spec.retries
            and self._trained < self._spec.max_runtime
        )

    def _conclude(self, ending: Ending, attempt: Attempt) -> _Again | None:
        """Upload what there is, then say how the job ended."""
        if failure := _failure(self._spec, ending, attempt, self._context.availability):
            if again := self._retry(failure, attempt):
                return again
            self._upload_remains(attempt)
            # A failed job ends when its failure was seen (API reference, TrainingEndTime).
            self._fail(failure, ending.failed.at if ending.failed else None)
            return None
        if ending.cause is Cause.CANCELLED and self._token.reason is Reason.SHUTDOWN:
            self._lose_at_shutdown(attempt)
            return None
        self._progress.enter(Phase.UPLOADING)
        attempt.fail_at(Stage.UPLOADING)
        self._context.outputs.upload(self._spec, attempt.instances)
        if attempt.unsaved and ending.cause is Cause.DONE:
            # Only now: the model is no less worth for that.
            raise attempt.unsaved
        self._offer(
            lambda life, now: self._succeeded(life, ending, now),
            self._spec.artifacts,
        )
        return None

    def _succeeded(self, life: Lifecycle, ending: Ending, now: float) -> Lifecycle:
        """The end after the upload; a stop that came as late as during it still counts."""
        timed_out = ending.cause is Cause.TIME
        if not timed_out and (ending.cause is Cause.CANCELLED or life.stop_requested):
            return stopped(self._spec, life, self._token.reason, now)
        phase = Phase.MAX_RUNTIME_EXCEEDED if timed_out else Phase.COMPLETED
        return life.finish(phase, self._spec.words.of(phase), now)

    def _lose_at_shutdown(self, attempt: Attempt) -> None:
        """The next emulator starts the job anew where the service would."""
        lost = InternalServerError(f"{INTERNAL_ERROR} {SHUTDOWN_NOTICE}")
        job = self._context.store.get(self._spec.id)
        if self._spec.spot:
            self._progress.enter(Phase.INTERRUPTED)
        elif (job and begins_anew(self._spec, job.life)) or self._may_retry(lost):
            self._progress.enter(Phase.STARTING)
        else:
            self._keep(attempt)
            self._fail(lost)

    def _keep(self, attempt: Attempt) -> None:
        """What nobody uploads any more stays on this machine: it may be hours of training."""
        try:
            self._context.outputs.keep(self._spec, attempt.instances)
        except OSError as error:
            _log.warning("%s: not kept: %s", self._spec.label, error)

    def _upload_remains(self, attempt: Attempt) -> None:
        """Also a failed job's files are kept; that they cannot be is not why it failed."""
        if self._token.hurry or not any(
            has_files(self._spec, dirs) for dirs in attempt.instances.values()
        ):
            return
        self._progress.enter(Phase.UPLOADING)
        try:
            self._context.outputs.upload(self._spec, attempt.instances)
        except JobError as error:
            _log.warning("%s: after its failure: %s", self._spec.label, error)

    def _end_early(self, attempt: Attempt | None) -> None:
        """The job's end while nothing of it runs."""
        if self._token.reason is Reason.SHUTDOWN:
            job = self._context.store.get(self._spec.id)
            if job and holds_nothing(job.life):
                return  # The next emulator lets it wait on.
            self._progress.notice(SHUTDOWN_NOTICE)
            if attempt:
                self._lose_at_shutdown(attempt)
            else:  # it was to be tried again
                self._progress.enter(Phase.STARTING)
            return
        self._progress.enter_stopping()
        self._offer(
            lambda life, now: stopped(self._spec, life, self._token.reason, now),
            has_instances=bool(attempt and attempt.instances),
        )

    def _fail(self, error: JobError, at: float | None = None) -> None:
        reason = str(error)
        self._offer(
            lambda life, now: life.finish(Phase.FAILED, self._spec.words.failed, at or now, reason),
            # After an error of the platform's the instances are not kept (developer guide).
            has_instances=isinstance(error, (AlgorithmError, ClientError)),
        )

    def _offer(
        self,
        step: Callable[[Lifecycle, float], Lifecycle],
        artifacts: str | None = None,
        has_instances: bool = True,
    ) -> None:
        """End the job; its instances, if it has some, become its warm pool."""
        keeps = has_instances and not self._token.hurry and self._cache is not None
        said = self._exit_message()

        def end(life: Lifecycle, now: float) -> Lifecycle:
            return replace(step(life, now), exit_message=said)

        self._pool = self._pools.offer(
            self._spec, lambda: self._progress.finish(end, artifacts, keeps)
        )

    def _exit_message(self) -> str | None:
        with suppress(ClientError):  # _failure has said so, unless there was more to say
            return exit_message(self._spec, self._latest.instances if self._latest else {})
        return None

    def _cache_directory(self, kept: Kept | None) -> Path | None:
        if kept:
            return kept.cache
        return self._pools.new_cache() if self._spec.keep_alive else None

    def _put_away(self, attempt: Attempt) -> None:
        """Last of all, so that nobody waits for it; a warm pool gets what it keeps."""
        if self._left:
            attempt.leave()
            return
        attempt.close()
        lease, cache = attempt.lease, self._cache
        if self._pool and cache:
            # What is no device, such as a port, an idle pool has no use for.
            devices = lease if lease and any(lease.held.values()) else None
            kept = Kept(self._spec.label, cache, devices, attempt.staged.release)
            self._pools.fill(self._pool, kept)
            lease = None if devices else lease
        else:
            attempt.staged.release()
            if cache:
                self._pools.give_back(Kept(self._spec.label, cache))
        if lease:
            self._context.capacity.release(lease)


def _failure(
    spec: WorkloadSpec, ending: Ending, attempt: Attempt, store: Availability
) -> JobError | None:
    if ending.cause is Cause.LOST:
        return InternalServerError(INTERNAL_ERROR)
    if ending.cause is Cause.HUNG:
        return AlgorithmError(ending.why, KILLED)
    if ending.failed is None:
        return _bad_message(spec, attempt) if ending.cause is Cause.DONE else None
    text = failure_text(attempt.instances[ending.failed.host].at(spec.failure_file))
    away = store.away_since(ending.failed.at - STORE_SECONDS)
    return failure_of(ending.failed, text, away) or InternalServerError(INTERNAL_ERROR)


def _bad_message(spec: WorkloadSpec, attempt: Attempt) -> JobError | None:
    try:
        exit_message(spec, attempt.instances)
    except ClientError as error:
        return error
    return None
