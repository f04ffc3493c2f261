"""Remove what ended jobs left on this machine: old logs, metrics, lease records, kept files."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event, Thread

from emulator.placement.leases import LeaseBook
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MetricStore
from emulator.workloads.run.directories import remove_directory

DAY = 86_400.0
"""Seconds."""
_LAST_STEP_SECONDS = 10.0
_BLOCK = 512
"""Bytes of a unit of st_blocks, on every file system."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptFiles:
    """The files of one job that S3 did not take (see keeping.py)."""

    path: Path
    modified: float
    """Epoch seconds of its last change."""
    size: int
    """Bytes on the disk."""


def kept_files(state_dir: Path) -> list[KeptFiles]:
    """All of them, oldest first: below `kept`, and job directories that could not be looked at.

    The latter were set aside as `jobs/<account>/<region>/<job>.<time>` (see settling.py).
    """
    places = chain(state_dir.glob("kept/*/*/*"), state_dir.glob("jobs/*/*/*.*"))
    found = [
        KeptFiles(path, path.stat().st_mtime, size_of(path))
        for path in places
        if path.is_dir() and "~" not in path.name
    ]
    return sorted(found, key=lambda kept: (kept.modified, kept.path))


def moved_aside(state_dir: Path) -> list[Path]:
    """Directories of ended jobs that could not be removed."""
    places = chain(state_dir.glob("jobs/*/*/*~*"), state_dir.glob("kept/*/*/*~*"))
    return sorted(path for path in places if path.is_dir())


def size_of(path: Path) -> int:
    """Bytes that the files below a path take of the disk; those it cannot see count nothing."""
    return sum(_sizes(path))


class Retention:
    """Removes what is older than the retention time, when the emulator starts and once a day."""

    def __init__(
        self,
        state_dir: Path,
        logs: LogStore,
        metrics: MetricStore,
        leases: LeaseBook,
        *,
        days: float,
        kept_bytes: int,
        now: Callable[[], float],
    ):
        """With 0 `days` nothing is removed for its age.

        `kept_bytes` bounds the kept files, but for those of the last day.
        """
        self._state_dir = state_dir
        self._logs = logs
        self._metrics = metrics
        self._leases = leases
        self._days = days
        self._kept_bytes = kept_bytes
        self._now = now
        self._closing = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Prune now and once a day, in a thread."""
        self._thread = Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Prune no more; a step that has begun gets a moment to end."""
        self._closing.set()
        if self._thread:
            self._thread.join(_LAST_STEP_SECONDS)

    def prune(self) -> None:
        """Remove what is too old. One failure, such as a locked database, stops no other step."""
        for step in (
            self._prune_moved_aside,
            self._prune_kept,
            self._prune_logs,
            self._prune_metrics,
            self._prune_leases,
        ):
            if self._closing.is_set():
                return
            try:
                step()
            except (OSError, sqlite3.Error) as error:
                _log.warning("retention: not all that is old could be removed: %s", error)

    def _run(self) -> None:
        try:
            self.prune()
            while not self._closing.wait(DAY):
                self.prune()
        except Exception:  # noqa: BLE001 - the top of a thread
            _log.exception("retention: it has ended")

    @property
    def _oldest(self) -> float:
        """The time, in epoch seconds, before which things are removed."""
        return self._now() - self._days * DAY if self._days else 0.0

    def _prune_moved_aside(self) -> None:
        for path in moved_aside(self._state_dir):
            # A younger one may be about to be removed by the thread that moved it.
            if path.stat().st_ctime < self._now() - DAY:
                remove_directory(path)

    def _prune_kept(self) -> None:
        found = kept_files(self._state_dir)
        excess = sum(kept.size for kept in found) - self._kept_bytes
        for kept in found:
            old = kept.modified < self._oldest
            # Whoever reads today in a job's log where its files are finds them there.
            if not old and (excess <= 0 or kept.modified > self._now() - DAY):
                continue
            why = "older than retention_days" if old else "kept files exceed kept_gigabytes"
            _log.warning("%s (%s) is removed: %s", kept.path, readable(kept.size), why)
            remove_directory(kept.path)
            excess -= kept.size

    def _prune_logs(self) -> None:
        if removed := self._logs.prune(self._oldest, self._now()):
            _log.info("retention: %d old log streams removed", removed)

    def _prune_metrics(self) -> None:
        if self._days and (removed := self._metrics.prune(self._oldest)):
            _log.info("retention: %d old metric values removed", removed)

    def _prune_leases(self) -> None:
        if self._days:
            self._leases.prune(self._oldest)


def readable(size: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _sizes(path: Path) -> Iterator[int]:
    try:
        yield path.lstat().st_blocks * _BLOCK
    except OSError:
        return
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            try:
                yield Path(folder, name).lstat().st_blocks * _BLOCK
            except OSError:
                continue
