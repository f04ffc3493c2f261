"""What a training job leaves in S3: model.tar.gz and output.tar.gz, or their files one by one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.model.errors import ClientError, InternalServerError
from emulator.model.job import JobSpec, S3Uri
from emulator.storage.archive import TarGz
from emulator.storage.objects import ObjectStore, StoreError
from emulator.storage.tree import Found, Warn, merge, open_file, printable, scan

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes there are."""
_HEADERS = 4096
"""Upper bound of what a tar adds to a member (headers with long names, padding)."""

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


def upload_artifacts(
    spec: JobSpec,
    roots: Sequence[tuple[Path, Path]],
    store: ObjectStore,
    progress: Progress,
) -> Uploaded:
    """Upload the model and the output data of all instances, merged.

    `roots` has each instance's /opt/ml/model and /opt/ml/output/data, in the order of their
    numbers. An archive of nothing is not made: seen from the service, a job that saved no
    model has no model.tar.gz, though Describe names it (sagemaker-python-sdk #3455).

    Raises ClientError ("Artifact upload failed:…") when the store refuses, and
    InternalServerError when it or the disk fails.
    """
    warnings: list[str] = []
    try:
        trees = {
            "model": merge(scan(model, warnings.append) for model, _ in roots),
            "output": merge(scan(output, warnings.append) for _, output in roots),
        }
        upload = _Upload(spec, store, progress, warnings.append, trees)
        for name, tree in trees.items():
            if spec.output_compression == "NONE":
                upload.files(name, tree)
            elif tree:
                upload.archive(name, tree)
    except StoreError as error:
        if error.transient:
            raise InternalServerError(f"Artifact upload failed:{error}") from error
        raise ArtifactUploadFailed(f"Error 7: {error}") from error
    except OSError as error:
        raise InternalServerError(f"Artifact upload failed:{error}") from error
    for warning in warnings:
        log.warning("%s: %s", spec.name, warning)
    return Uploaded(tuple(upload.keys), upload.done, tuple(warnings))


class _Upload:
    """One job's upload, and how far it is."""

    def __init__(
        self,
        spec: JobSpec,
        store: ObjectStore,
        progress: Progress,
        warn: Warn,
        trees: Mapping[str, Sequence[Found]],
    ):
        self.keys: list[str] = []
        self.done = 0
        self._output = spec.output
        self._store = store
        self._progress = progress
        self._warn = warn
        self._total = sum(found.size for tree in trees.values() for found in tree if found.is_file)

    def archive(self, name: str, tree: Sequence[Found]) -> None:
        """Upload one tree as `<name>.tar.gz`."""
        target = self._output.join(f"{name}.tar.gz")
        bound = sum(found.size + _HEADERS for found in tree)
        with TarGz(tree, self._warn, self._count) as stream:
            self._store.upload(target.bucket, target.key, stream, bound + bound // 100)
        self.keys.append(target.key)

    def files(self, name: str, tree: Sequence[Found]) -> None:
        """Upload one tree's files below `<name>/`; S3 has no links and no empty directories."""
        for found in tree:
            if found.is_directory:
                continue
            if printable(found.name) != "/".join(found.name):
                self._warn(f"{printable(found.name)} is left out: the name is not UTF-8")
                continue
            try:
                descriptor = open_file(_content(found))
            except OSError as error:
                self._warn(f"{printable(found.name)} is left out: {error.strerror}")
                continue
            self._file(self._output.join(name, *found.name), descriptor)

    def _file(self, target: S3Uri, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            self._store.upload(target.bucket, target.key, file, size, self._count)
        self.keys.append(target.key)

    def _count(self, count: int) -> None:
        self.done += count
        # Files may have grown since they were counted.
        self._progress(min(self.done, self._total), self._total)


def _content(found: Found) -> Path:
    """The file whose bytes are uploaded: a link's target if it lies in the same tree."""
    if not found.is_link:
        return found.path
    root = found.path.parents[len(found.name) - 1].resolve()
    target = found.path.resolve()
    if not target.is_relative_to(root):
        raise FileNotFoundError(2, "the link leads elsewhere", str(found.path))
    return target
