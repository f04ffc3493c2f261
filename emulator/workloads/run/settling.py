"""The end of jobs that no thread of their own takes there."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from threading import Event

from emulator.model.errors import ClientError, InternalServerError, JobError, disk_full
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.run_record import Reason
from emulator.model.workload import WorkloadSpec
from emulator.workloads.run.context import Instances, RunContext
from emulator.workloads.run.outcome import INTERNAL_ERROR
from emulator.workloads.run.status import tell_end

_LONGEST_PAUSE = 60.0
_log = logging.getLogger(__name__)


def error_of_crash(
    context: RunContext, spec: WorkloadSpec, error: BaseException
) -> JobError | None:
    """What a full disk has hit, if that made the emulator fail; it is not retried."""
    where = disk_full(error, str(context.job_directory(spec)))
    if where is None:
        return None
    if isinstance(error, JobError) and where.partition(":")[0] in str(error):
        where = str(error).removeprefix(f"{error.prefix}: ")  # it says what failed, too
    return ClientError(where)


def end_as_lost(context: RunContext, spec: WorkloadSpec, error: BaseException | None = None) -> Job:
    """Write down that the emulator lost a job, unless it has ended. Raises sqlite3.Error.

    It has failed then, for `error` if that says more than that the emulator is to blame; but
    one that was being stopped is stopped.
    """
    known = error_of_crash(context, spec, error) if error else None
    reason = str(known or InternalServerError(INTERNAL_ERROR))

    def lost(life: Lifecycle, now: float) -> Lifecycle:
        if not life.stop_requested:
            return life.finish(Phase.FAILED, spec.words.failed, now, reason)
        if life.phase not in (Phase.STOPPING, Phase.UPLOADING):
            life = life.enter(Phase.STOPPING, spec.words.stopping, now)
        return life.finish(Phase.STOPPED, spec.words.stopped, now)

    return _end(context, spec, lost)


def end_waiting(context: RunContext, spec: WorkloadSpec, reason: Reason) -> Job:
    """End a job that holds nothing and has no thread. Raises sqlite3.Error."""

    def stop(life: Lifecycle, now: float) -> Lifecycle:
        stopping = life.request_stop(now).enter(Phase.STOPPING, spec.words.stopping, now)
        return stopped(spec, stopping, reason, now)

    return _end(context, spec, stop)


def _end(
    context: RunContext, spec: WorkloadSpec, step: Callable[[Lifecycle, float], Lifecycle]
) -> Job:
    """Take a job and its warm pool to their end by `step`, unless the job has ended."""
    now = context.clock.now()

    def end(job: Job) -> Job:
        if job.life.status.terminal:
            return job
        pool = job.warm_pool and job.warm_pool.end(now)
        return replace(job, life=step(job.life, now), warm_pool=pool)

    ended = context.store.update(spec.id, end)
    tell_end(ended)
    return ended


def stopped(spec: WorkloadSpec, life: Lifecycle, reason: Reason | None, now: float) -> Lifecycle:
    """The end of a job that was to end early, for that reason."""
    waited = reason is Reason.MAX_WAIT
    phase = Phase.MAX_WAIT_TIME_EXCEEDED if waited else Phase.STOPPED
    return life.finish(phase, spec.words.of(phase), now)


def end_in_time(
    context: RunContext, spec: WorkloadSpec, closing: Event, why: BaseException, pause: float = 1.0
) -> None:
    """The same for as long as it takes: a full disk has room again some day.

    Between two tries lie `pause` seconds, then more. When `closing` is set before it has
    worked, the next start ends the job.
    """
    while True:
        try:
            end_as_lost(context, spec, why)
        except sqlite3.Error as error:
            _log.warning("%s: its end cannot be noted yet: %s", spec.label, error)
        else:
            return
        if closing.wait(pause):
            return
        pause = min(2 * pause, _LONGEST_PAUSE)


def rescue(context: RunContext, spec: WorkloadSpec, instances: Instances) -> JobError | None:
    """Save what instances that are gone had saved; says why not all of it is in S3.

    What could not be looked at stays, set aside beside the job's directory: whatever is wrong
    with the files, the job has an end. Of model and output whoever ends the job takes care.
    Raises InternalServerError then: there is nothing left to work with.
    """
    try:
        context.syncs.rescue(spec, instances)
    except JobError as error:
        return error
    except Exception as error:  # files of any kind lie there; the other jobs must run
        _log.exception("%s: what it left could not be saved", spec.label)
        _set_aside(context, spec)
        raise InternalServerError(INTERNAL_ERROR) from error
    return None


def _set_aside(context: RunContext, spec: WorkloadSpec) -> None:
    directory = context.job_directory(spec)
    # No job's name has a dot in it.
    aside = directory.with_name(f"{directory.name}.{int(context.clock.now())}")
    try:
        directory.rename(aside)
    except OSError as error:
        _log.warning("%s: what it left stays in %s: %s", spec.label, directory, error)
    else:
        _log.warning("%s: what it left is in %s", spec.label, aside)
