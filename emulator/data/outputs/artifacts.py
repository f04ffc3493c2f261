"""What a workload leaves in S3: archives such as model.tar.gz, or files one by one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.data.objectstore.retry import PATIENCE, persist
from emulator.data.outputs.archive import TarGz
from emulator.data.outputs.tree import (
    Found,
    Warn,
    content,
    leads_out,
    merge,
    open_file,
    printable,
    scan,
)
from emulator.model.errors import ClientError, InternalServerError
from emulator.model.workload import Output, S3Uri

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes there are."""
_HEADERS = 4096
"""Upper bound of what a tar adds to a member (headers with long names, padding)."""
_THREADS = 8
"""Files side by side; each may hold a part in memory."""
_LINKS_TOLD = 10

log = logging.getLogger(__name__)


class ArtifactUploadFailed(ClientError):
    """The outputs cannot be stored; the prefix is the service's own."""

    def __init__(self, reason: str):
        super().__init__(f"Artifact upload failed:{reason}")


@dataclass(frozen=True)
class Uploaded:
    """What went to S3."""

    keys: tuple[str, ...]
    bytes: int
    """Before compression."""
    warnings: tuple[str, ...]
    """Files that were left out or changed meanwhile, one line each."""


@dataclass(frozen=True)
class OutputRoots:
    """Where an output of a workload lies on this machine."""

    output: Output
    directories: Sequence[Path]
    """One an instance, in the order of their numbers."""
    depth: int = 1
    """How many parts at the end of these places a script can replace by links."""


def upload_outputs(
    label: str,
    outputs: Sequence[OutputRoots],
    store: ObjectStore,
    progress: Progress,
    patience: float = PATIENCE,
) -> Uploaded:
    """Upload the outputs of all instances, merged; `label` names whose they are in log lines.

    An archive of nothing is not made: seen from the service, a training job that saved no
    model has no model.tar.gz, though Describe names it (sagemaker-python-sdk #3455).

    A store in trouble is waited for, `patience` seconds at most. Raises ClientError ("Artifact
    upload failed:…") when it refuses, and InternalServerError when it or the disk fails.
    """
    warnings: list[str] = []
    try:
        trees = [
            (
                each.output,
                merge(scan(root, warnings.append, each.depth) for root in each.directories),
            )
            for each in outputs
        ]
        upload = _Upload(store, progress, warnings.append, trees, patience)
        for output, tree in trees:
            if not output.archive:
                upload.files(output, tree)
            elif tree:
                upload.archive(output, tree)
    except StoreError as error:
        if error.transient:
            raise InternalServerError(f"Artifact upload failed:{error}") from error
        raise ArtifactUploadFailed(f"Error 7: {error}") from error
    except OSError as error:
        raise InternalServerError(f"Artifact upload failed:{error}") from error
    for warning in warnings:
        log.warning("%s: %s", label, warning)
    return Uploaded(tuple(upload.keys), upload.done, tuple(warnings))


class _Upload:
    """One job's upload, and how far it is."""

    def __init__(
        self,
        store: ObjectStore,
        progress: Progress,
        warn: Warn,
        trees: Sequence[tuple[Output, Sequence[Found]]],
        patience: float,
    ):
        self.keys: list[str] = []
        self.done = 0
        self._store = store
        self._progress = progress
        self._warn = warn
        self._patience = patience
        self._lock = Lock()
        self._total = sum(found.size for _, tree in trees for found in tree if found.is_file)

    def archive(self, output: Output, tree: Sequence[Found]) -> None:
        """Upload one tree as a tar.gz; what the store lost is made again."""
        target = output.target
        bound = sum(found.size + _HEADERS for found in tree)

        def attempt(count: Callable[[int], None]) -> list[str]:
            warnings: list[str] = []
            with TarGz(tree, warnings.append, count) as stream:
                self._store.upload(target.bucket, target.key, stream, bound + bound // 100)
            return warnings

        for warning in self._persist(attempt):
            self._warn(warning)
        self._tell_links(tree)
        self.keys.append(target.key)

    def _tell_links(self, tree: Sequence[Found]) -> None:
        """An archive has a link where the script may have meant a directory full of weights."""
        names = {found.name for found in tree}
        told = 0
        for found in tree:
            if not found.is_link:
                continue
            with suppress(OSError):  # it is gone, and was not packed
                if not (leads := leads_out(found, names)):
                    continue
                told += 1
                if told <= _LINKS_TOLD:
                    self._warn(
                        f"{printable(found.name)} is packed as a link to {printable((leads,))}, "
                        "which is not in the archive"
                    )
        if told > _LINKS_TOLD:
            self._warn(f"{told - _LINKS_TOLD} more links lead out of the archive")

    def files(self, output: Output, tree: Sequence[Found]) -> None:
        """Upload one tree's files below the target; S3 has no links and no empty directories."""
        files = [found for found in tree if not found.is_directory]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="upload") as pool:
            jobs = [pool.submit(self._file, output, found) for found in files]
            wait(jobs, return_when=FIRST_EXCEPTION)
            pool.shutdown(cancel_futures=True)
        for job in jobs:
            if not job.cancelled() and (error := job.exception()):
                raise error
        self.keys.extend(key for job in jobs if (key := job.result()))

    def _file(self, output: Output, found: Found) -> str:
        """Upload one file and return its key; "" if there is nothing to upload."""
        if printable(found.name) != "/".join(found.name):
            self._warn(f"{printable(found.name)} is left out: the name is not UTF-8")
            return ""
        target = output.target.join(*found.name)
        try:
            source = content(found, output.path)
            self._persist(lambda count: self._send(target, source, count))
        except (FileNotFoundError, IsADirectoryError) as error:
            self._warn(f"{printable(found.name)} is left out: {error.strerror}")
            return ""
        return target.key

    def _send(self, target: S3Uri, source: Found, count: Callable[[int], None]) -> list[str]:
        with os.fdopen(open_file(source), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._store.upload(target.bucket, target.key, file, size, count)
        return []

    def _persist(self, attempt: Callable[[Callable[[int], None]], list[str]]) -> list[str]:
        """Try until it works; what a try that failed had counted is taken back."""

        def counted() -> list[str]:
            sent = 0

            def count(added: int) -> None:
                nonlocal sent
                sent += added
                self._count(added)

            try:
                return attempt(count)
            except BaseException:
                self._count(-sent)
                raise

        return persist(counted, self._patience)

    def _count(self, count: int) -> None:
        with self._lock:
            self.done += count
            # Files may have grown since they were counted.
            done = min(self.done, self._total)
        self._progress(done, self._total)
