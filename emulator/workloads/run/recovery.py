"""What becomes of a job that an earlier emulator ran and whose instances are gone.

On the service this is the loss of an instance: a spot job is interrupted and goes on, another
one is tried again as its RetryStrategy allows, or fails. A job whose training was over, or
that was being stopped, only has its outputs uploaded and ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import time_ns

from emulator.drivers.base import LastingRuntime, Runtime
from emulator.model.errors import InternalServerError, ResourceNotFound
from emulator.model.lifecycle import WITH_INSTANCES, Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.run_record import Cause, Ending, Reason, RunRecord, read_ending
from emulator.model.workload import WorkloadSpec
from emulator.placement.leases import Lease
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.directories import remove_directory
from emulator.workloads.run.outcome import INTERNAL_ERROR

RESTART_NOTICE = "The emulator was restarted while this job ran."
_WITHOUT_FILES = (
    Phase.STARTING,
    Phase.PENDING,
    Phase.DOWNLOADING,
    Phase.INTERRUPTED,
)
_INTERRUPTED_IN = (Phase.DOWNLOADING, Phase.RUNNING)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Past:
    """What the attempts at a job that are over have used of its limits."""

    trained: float = 0
    """Seconds."""
    retries: int = 0

    @classmethod
    def of(cls, life: Lifecycle) -> Past:
        """As the job's record tells; an attempt that still trains is not counted."""
        trained = sum(
            entry.ended - entry.started
            for entry in life.transitions
            if entry.status is Phase.RUNNING and entry.ended is not None
        )
        retries = sum(
            entry.status is Phase.STARTING and before.status is not Phase.INTERRUPTED
            for before, entry in pairwise(life.transitions)
        )
        return cls(trained, retries)


@dataclass(frozen=True)
class Resumed:
    """A job that is taken over."""

    run: RunRecord
    lease: Lease
    """What its instances hold."""


def run_of(job: Job, directory: Path) -> RunRecord | None:
    """What an earlier emulator wrote down of the job's attempt; None if nothing was started.

    Versions before the run record had it in files of the job's directory.
    """
    if job.run or job.life.phase not in WITH_INSTANCES:
        return job.run
    try:
        attempt = json.loads((directory / "attempt.json").read_text(encoding="utf-8"))
        run = RunRecord(**attempt)
        with suppress(FileNotFoundError):
            stored = json.loads((directory / "ending.json").read_text(encoding="utf-8"))
            reason = stored["reason"]
            ending = read_ending(stored["ending"])
            run = replace(run, ending=ending, reason=Reason[reason] if reason else None)
        return run
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s: its attempt cannot be read from %s: %s", job.spec.label, directory, error)
        return None


def runtime_of(run: RunRecord, runtimes: Iterable[Runtime]) -> LastingRuntime:
    """The one that has the instances, whatever it would be for the job's image by now.

    Raises InternalServerError where there is none of that name any more.
    """
    for runtime in runtimes:
        if runtime.traits.name == run.runtime and isinstance(runtime, LastingRuntime):
            return runtime
    raise InternalServerError(INTERNAL_ERROR)


def can_be_left(spec: WorkloadSpec) -> bool:
    """Whether nothing that the emulator serves ends with it: no pipes, no mounts from S3."""
    return all(channel.s3 is None or channel.input_mode == "File" for channel in spec.channels)


def holds_nothing(life: Lifecycle) -> bool:
    """Whether a job waits for instances, so that it can wait on under the next emulator."""
    waits = (Phase.STARTING, Phase.PENDING, Phase.INTERRUPTED)
    return life.phase in waits and not life.stop_requested


def begins_anew(spec: WorkloadSpec, life: Lifecycle) -> bool:
    """Whether a job had instances that had not begun to train: it has lost nothing.

    It begins once more, whatever its RetryStrategy says. A spot job is interrupted instead.
    """
    return life.phase is Phase.DOWNLOADING and not life.stop_requested and not spec.spot


def ending_of_lost(spec: WorkloadSpec, life: Lifecycle, decided: Ending | None) -> Ending | None:
    """How training ended for a job whose instances are gone; None if it never began (pure)."""
    if decided:
        return decided
    if life.stop_requested:
        return None if life.phase in _WITHOUT_FILES else Ending(Cause.CANCELLED)
    if spec.spot and life.phase in _INTERRUPTED_IN:
        return Ending(Cause.INTERRUPTED)
    return Ending(Cause.LOST)


def last_sign_of_life(context: RunContext, spec: WorkloadSpec) -> float:
    """When a job's instances were last known to run (epoch seconds), or 0.

    Asked before anything is written for the job: by its log, and by what its emulator wrote
    into its directory.
    """
    paths = list(context.job_directory(spec).glob("*.json"))  # a journal of saved files is one
    with suppress(ResourceNotFound):
        group = spec.kind.log_group
        names = context.logs.stream_names(spec.scope, group, f"{spec.name}/")
        paths += [context.logs.path(spec.scope, group, name) for name in names]
    times = [0.0]
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def remove_leftovers(directory: Path, unfinished: Collection[Path]) -> None:
    """Remove the directories of jobs that have ended, also those half removed by a kill.

    They are moved aside at once, since a new job may get such a directory; removing them may
    take long and goes on in a thread.
    """
    aside = [path for path in directory.glob("*/*/*~*") if path.is_dir()]
    for path in directory.glob("*/*/*"):
        if "." in path.name or "~" in path.name or path in unfinished or not path.is_dir():
            continue
        target = path.with_name(f"{path.name}~{time_ns()}")
        try:
            path.rename(target)
        except OSError as error:
            _log.warning("%s of an ended job cannot be moved: %s", path, error)
        else:
            aside.append(target)
    if aside:
        Thread(target=_remove_all, args=(aside,), name="leftovers", daemon=True).start()


def _remove_all(directories: Collection[Path]) -> None:
    for each in directories:
        remove_directory(each)
