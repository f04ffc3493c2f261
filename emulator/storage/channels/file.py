"""File mode: every object is a file on the instance before the training starts."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from threading import Event, Lock

from emulator.model.errors import InternalServerError
from emulator.model.job import S3Uri
from emulator.storage.channels.base import DataDownloadFailed, Progress, StagedChannel, Staging
from emulator.storage.channels.naming import Entry, entries, manifest, refuse_illegal, shard
from emulator.storage.clone import clone
from emulator.storage.objects import Cancelled, ObjectStore, StoreError

_THREADS = 16
_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "Insufficient disk space"


@dataclass(frozen=True)
class Placement:
    """An object, and the file it becomes on each instance that gets it."""

    entry: Entry
    files: tuple[Path, ...]


def stage(staging: Staging) -> StagedChannel:
    """Download the channel: each object once, then a copy for every further instance."""
    prefix = _prefix(staging)
    try:
        # Before the listing: a server may well find something under a//b.
        refuse_illegal(prefix)
        made = entries(prefix, staging.store.list(prefix.bucket, prefix.key))
        total = sum(entry.info.size for entry in made)
        _prepare(staging, prefix, made)
        _refuse_if_too_large(staging, total)
        _download(staging, prefix.bucket, placements(staging, made), total)
    except StoreError as error:
        raise _in_the_services_words(prefix, error) from error
    except OSError as error:
        if error.errno in _FULL:
            raise DataDownloadFailed(DISK_FULL) from error
        if error.errno == errno.ENAMETOOLONG:
            raise DataDownloadFailed(
                f"Failed to download data. A name is too long: {error.filename}"
            ) from error
        raise InternalServerError(f"input data of {staging.channel.name}: {error}") from error
    return StagedChannel(staging.channel.name, len(made), total)


def placements(staging: Staging, made: Sequence[Entry]) -> list[Placement]:
    """Who gets what: every receiver everything, or each object one receiver (pure)."""
    directories = [staging.directory(host) for host in staging.receivers]
    if not directories:
        return []
    if staging.channel.distribution == "ShardedByS3Key":
        return [
            Placement(entry, (directory / entry.path,))
            for index, directory in enumerate(directories)
            for entry in shard(made, index, len(directories))
        ]
    return [Placement(entry, tuple(each / entry.path for each in directories)) for entry in made]


def _prefix(staging: Staging) -> S3Uri:
    source = staging.channel.s3
    if source is None:
        raise InternalServerError(f"channel {staging.channel.name} has no S3DataSource")
    return S3Uri.parse(source["S3Uri"])


def _prepare(staging: Staging, prefix: S3Uri, made: Sequence[Entry]) -> None:
    text = manifest(prefix, made)
    for host in staging.receivers:
        staging.directory(host).mkdir(parents=True, exist_ok=True)
        staging.manifest(host).write_text(text, encoding="utf-8", errors="surrogateescape")


def _refuse_if_too_large(staging: Staging, total: int) -> None:
    """Fail at once rather than after hours; copies may share their blocks, so count one."""
    for host in staging.receivers[:1]:
        if total > disk_usage(staging.directory(host)).free:
            raise DataDownloadFailed(DISK_FULL)


def _download(staging: Staging, bucket: str, placed: Sequence[Placement], total: int) -> None:
    failed = Event()
    count = _Counter(staging.progress, total)

    def cancelled() -> bool:
        return failed.is_set() or staging.cancelled()

    def fetch(placement: Placement) -> None:
        try:
            _fetch(staging.store, bucket, placement, count.add, cancelled)
        except BaseException:
            failed.set()
            raise

    count.add(0)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="download") as pool:
        jobs = [pool.submit(fetch, each) for each in placed]
        wait(jobs, return_when=FIRST_EXCEPTION)
        pool.shutdown(wait=True, cancel_futures=True)
    _raise_the_cause(jobs)


def _fetch(
    store: ObjectStore,
    bucket: str,
    placement: Placement,
    on_bytes: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> None:
    if cancelled():
        raise Cancelled(f"download of s3://{bucket}/{placement.entry.info.key}")
    for file in placement.files:
        file.parent.mkdir(parents=True, exist_ok=True)
    first, *others = placement.files
    store.download(bucket, placement.entry.info.key, first, on_bytes, cancelled)
    for other in others:
        clone(first, other, cancelled)


def _raise_the_cause(jobs: Sequence[Future[None]]) -> None:
    """The first real failure; those that only stopped because of it say Cancelled."""
    errors = [error for job in jobs if not job.cancelled() and (error := job.exception())]
    for error in errors:
        if not isinstance(error, Cancelled):
            raise error
    if errors:
        raise errors[0]


def _in_the_services_words(prefix: S3Uri, error: StoreError) -> Exception:
    if error.transient:
        return InternalServerError(f"Data download failed:{error}")
    return DataDownloadFailed(f"Failed to download data from {prefix}. {error}")


class _Counter:
    """Adds up what many threads have done and tells the one who wants to know."""

    def __init__(self, progress: Progress, total: int):
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)
