"""The end of jobs that no thread of their own takes there."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from threading import Event

from emulator.container.layout import instances_below
from emulator.jobs.directories import remove_directory
from emulator.jobs.outcome import INTERNAL_ERROR
from emulator.jobs.progress import Progress, tell_end
from emulator.jobs.workshop import Instances, Workshop
from emulator.model import lifecycle
from emulator.model.errors import InternalServerError
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Secondary
from emulator.model.record import Job
from emulator.runtimes.base import Lasting

RESTART_NOTICE = "The emulator was restarted while this training job ran."
_LONGEST_PAUSE = 60.0
_log = logging.getLogger(__name__)


def end_as_lost(shop: Workshop, spec: JobSpec) -> Job:
    """Write down that the emulator lost a job, unless it has ended. Raises sqlite3.Error.

    It has failed then; but one that was being stopped is stopped.
    """
    now, reason = shop.clock.now(), str(InternalServerError(INTERNAL_ERROR))

    def end(job: Job) -> Job:
        if job.life.status.terminal:
            return job
        if job.life.stop_requested:
            life = job.life.finish(Secondary.STOPPED, lifecycle.STOPPED, now)
        else:
            life = job.life.finish(Secondary.FAILED, lifecycle.FAILED, now, reason)
        return replace(job, life=life, warm_pool=job.warm_pool and job.warm_pool.end(now))

    ended = shop.store.update(spec.scope, spec.name, end)
    tell_end(ended)
    return ended


def end_in_time(shop: Workshop, spec: JobSpec, closing: Event, pause: float = 1.0) -> None:
    """The same for as long as it takes: a full disk has room again some day.

    Between two tries lie `pause` seconds, then more. When `closing` is set before it has
    worked, the next start ends the job.
    """
    while True:
        try:
            end_as_lost(shop, spec)
        except sqlite3.Error as error:
            _log.warning("training job %s: its end cannot be noted yet: %s", spec.name, error)
        else:
            return
        if closing.wait(pause):
            return
        pause = min(2 * pause, _LONGEST_PAUSE)


def abandon(shop: Workshop, job: Job) -> Job:
    """End a job whose process was killed; what it left is saved first.

    Whatever is wrong with its files, the emulator starts: what could not be saved is set
    aside, beside the job's directory. Raises sqlite3.Error.
    """
    spec, directory = job.spec, shop.job_directory(job.spec)
    instances = instances_below(directory, spec)
    Progress(shop, spec).notice(RESTART_NOTICE)
    # Before the end can be seen: whoever starts anew then finds its checkpoints.
    saved = [
        _managed(spec, lambda: shop.syncs.rescue(spec, instances)),
        _managed(spec, lambda: shop.outputs.keep(spec, instances)),
    ]
    if not all(saved):
        _set_aside(shop, spec)
    elif not shop.keep_directories:
        remove_directory(directory)
    return end_as_lost(shop, spec)


def salvage(shop: Workshop, spec: JobSpec, runtime: Lasting, instances: Instances) -> None:
    """End the instances of a job that could not be taken over, and save what they saved.

    The job's capacity goes to others next: nothing of it may run on. Saved is what is copied
    while a job runs; of model and output whoever ends the job takes care.
    """
    runtime.remove(spec.arn)
    if not _managed(spec, lambda: shop.syncs.rescue(spec, instances)):
        _set_aside(shop, spec)


def _set_aside(shop: Workshop, spec: JobSpec) -> None:
    directory = shop.job_directory(spec)
    # No job's name has a dot in it.
    aside = directory.with_name(f"{spec.name}.{int(shop.clock.now())}")
    if _managed(spec, lambda: directory.rename(aside)):
        _log.warning("training job %s: what it left is in %s", spec.name, aside)


def _managed(spec: JobSpec, save: Callable[[], object]) -> bool:
    try:
        save()
    except Exception:  # noqa: BLE001 - files of any kind lie there; the other jobs must run
        _log.exception("training job %s: what it left could not be saved", spec.name)
        return False
    return True
