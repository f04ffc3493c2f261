"""What S3 holds of an earlier run's checkpoints, brought back before the instances start."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from emulator.model.errors import InternalServerError
from emulator.model.job import S3Uri
from emulator.storage.channels.base import DataDownloadFailed
from emulator.storage.channels.naming import Entry, entries, manifest
from emulator.storage.clone import clone
from emulator.storage.objects import Cancelled, ObjectStore, StoreError
from emulator.storage.persistence import persist

_THREADS = 8


def restore(
    uri: S3Uri,
    directories: Sequence[Path],
    manifests: Sequence[Path],
    store: ObjectStore,
    cancelled: Callable[[], bool],
) -> int:
    """Fill every instance's directory, write its `checkpoints-manifest`; returns the objects.

    Only keys below `uri` as a directory count: what would be copied back to `ckpt` must not
    come from `ckpt-2`. An empty prefix is no error; its manifest is the line of the prefix
    (seen from the service). Raises JobError and Cancelled.
    """
    folder = S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/" if uri.key.strip("/") else "")
    try:
        found = persist(lambda: list(store.list(folder.bucket, folder.key)))
        files = [info for info in found if not (info.key.endswith("/") and info.size == 0)]
        made = entries(folder, files) if files else ()
        for path in manifests:
            text = manifest(uri, made)
            path.write_text(text, encoding="utf-8", errors="surrogateescape")
        _download(folder.bucket, made, directories, store, cancelled)
    except StoreError as error:
        if error.transient:
            raise InternalServerError(f"Data download failed:{error}") from error
        raise DataDownloadFailed(f"Failed to download data from {uri}. {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataDownloadFailed("Insufficient disk space") from error
        raise InternalServerError(f"checkpoints from {uri}: {error}") from error
    return len(made)


def _download(
    bucket: str,
    made: Sequence[Entry],
    directories: Sequence[Path],
    store: ObjectStore,
    cancelled: Callable[[], bool],
) -> None:
    failed = Event()

    def over() -> bool:
        return failed.is_set() or cancelled()

    def fetch(entry: Entry) -> None:
        try:
            first, *others = [directory / entry.path for directory in directories]
            for path in (first, *others):
                path.parent.mkdir(parents=True, exist_ok=True)
            persist(lambda: store.download(bucket, entry.info.key, first, cancelled=over))
            for other in others:
                clone(first, other, over)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="restore") as pool:
        jobs = [pool.submit(fetch, entry) for entry in made]
    errors = [error for job in jobs if (error := job.exception())]
    # Those that only stopped because of another one's failure say Cancelled.
    for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
        raise error
