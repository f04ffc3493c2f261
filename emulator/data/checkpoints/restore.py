"""What S3 holds of an earlier run's checkpoints, brought back before the instances start."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from emulator.data.cache.reflink import clone
from emulator.data.inputs.failures import in_the_services_words
from emulator.data.inputs.naming import Entry, entries, manifest
from emulator.data.objectstore.objects import ObjectStore
from emulator.data.objectstore.transfer import Downloader, in_parallel
from emulator.model.workload import S3Uri


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
    (seen from the service). A store that is away is waited for. Raises JobError and Cancelled.
    """
    folder = S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/" if uri.key.strip("/") else "")
    downloader = Downloader(store)
    patience = downloader.patience(cancelled)
    with in_the_services_words("checkpoints", str(uri)):
        found = patience.call(lambda: list(store.list(folder.bucket, folder.key)))
        files = [info for info in found if not (info.key.endswith("/") and info.size == 0)]
        made = entries(folder, files) if files else ()
        for path in manifests:
            text = manifest(uri, made)
            path.write_text(text, encoding="utf-8", errors="surrogateescape")

        def fetch(entry: Entry, stopping: Callable[[], bool]) -> None:
            _fetch(downloader, folder.bucket, entry, directories, stopping)

        in_parallel(fetch, made, cancelled)
    return len(made)


def _fetch(
    downloader: Downloader,
    bucket: str,
    entry: Entry,
    directories: Sequence[Path],
    stopping: Callable[[], bool],
) -> None:
    """One object for all instances; each has a file of its own."""
    first, *others = [directory / entry.path for directory in directories]
    for path in (first, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
    # A short name: the key's last part may already be as long as names get.
    partial = first.with_name(f".{uuid.uuid4().hex}")
    downloader.download(bucket, entry.info, partial, cancelled=stopping)
    partial.rename(first)
    for other in others:
        clone(first, other, stopping)
