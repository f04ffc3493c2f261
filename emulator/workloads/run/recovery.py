"""What becomes of a job that an earlier emulator ran and whose instances are gone.

On the service this is the loss of an instance: a spot job is interrupted and goes on, another
one is tried again as its RetryStrategy allows, or fails. A job whose training was over, or
that was being stopped, only has its outputs uploaded and ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import time_ns

from emulator.model.errors import ResourceNotFound
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle, Secondary
from emulator.model.plan import Exit
from emulator.telemetry.logs.collector import GROUP
from emulator.workloads.run.cancellation import Reason
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.directories import remove_directory
from emulator.workloads.run.fleet_watch import Cause, Ending

RESTART_NOTICE = "The emulator was restarted while this training job ran."
_RECORD = "ending.json"
_WITHOUT_FILES = (
    Secondary.STARTING,
    Secondary.PENDING,
    Secondary.DOWNLOADING,
    Secondary.INTERRUPTED,
)
_INTERRUPTED_IN = (Secondary.DOWNLOADING, Secondary.TRAINING)
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
            if entry.status is Secondary.TRAINING and entry.ended is not None
        )
        retries = sum(
            entry.status is Secondary.STARTING and before.status is not Secondary.INTERRUPTED
            for before, entry in pairwise(life.transitions)
        )
        return cls(trained, retries)


@dataclass(frozen=True)
class EndingRecord:
    """Why and how a training is over: written down when it is decided, before it is done.

    The emulator may be killed while the instances have their grace, or while it uploads.
    """

    ending: Ending
    reason: Reason | None
    """Why the job was to end early."""

    def save(self, directory: Path) -> None:
        """Write it into the job's directory. Raises OSError."""
        ending = {**asdict(self.ending), "cause": self.ending.cause.name}
        text = json.dumps({"ending": ending, "reason": self.reason and self.reason.name})
        partial = directory / f"{_RECORD}.new"
        partial.write_text(text, encoding="utf-8")
        partial.replace(directory / _RECORD)

    @classmethod
    def load(cls, directory: Path) -> EndingRecord | None:
        """None if the training of the job that has this directory was not over."""
        try:
            stored = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
            ending, reason = stored["ending"], stored["reason"]
            cause, failed = _cause(ending.pop("cause")), ending.pop("failed")
            return cls(
                Ending(cause, Exit(**failed) if failed else None, **ending),
                Reason[reason] if reason else None,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be read: %s", directory / _RECORD, error)
            return None


def _cause(name: str) -> Cause:
    """Earlier versions wrote WISH for CANCELLED. Raises KeyError."""
    return Cause.CANCELLED if name == "WISH" else Cause[name]


def holds_nothing(life: Lifecycle) -> bool:
    """Whether a job waits for instances, so that it can wait on under the next emulator."""
    waits = (Secondary.STARTING, Secondary.PENDING, Secondary.INTERRUPTED)
    return life.secondary in waits and not life.stop_requested


def begins_anew(spec: JobSpec, life: Lifecycle) -> bool:
    """Whether a job had instances that had not begun to train: it has lost nothing.

    It begins once more, whatever its RetryStrategy says. A spot job is interrupted instead.
    """
    return life.secondary is Secondary.DOWNLOADING and not life.stop_requested and not spec.spot


def ending_of_lost(spec: JobSpec, life: Lifecycle, record: EndingRecord | None) -> Ending | None:
    """How training ended for a job whose instances are gone; None if it never began (pure)."""
    if record:
        return record.ending
    if life.stop_requested:
        return None if life.secondary in _WITHOUT_FILES else Ending(Cause.CANCELLED)
    if spec.spot and life.secondary in _INTERRUPTED_IN:
        return Ending(Cause.INTERRUPTED)
    return Ending(Cause.LOST)


def last_sign_of_life(context: RunContext, spec: JobSpec) -> float:
    """When a job's instances were last known to run (epoch seconds), or 0.

    Asked before anything is written for the job: by its log, and by what its emulator wrote
    into its directory.
    """
    paths = list(context.job_directory(spec).glob("*.json"))
    with suppress(ResourceNotFound):
        names = context.logs.stream_names(spec.scope, GROUP, f"{spec.name}/")
        paths += [context.logs.path(spec.scope, GROUP, name) for name in names]
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
