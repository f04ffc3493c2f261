"""What a job read from S3 and wrote there."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import lru_cache
from io import BufferedReader, RawIOBase
from itertools import islice
from typing import Any

from isal import igzip

from emulator.data.objectstore.objects import CHUNK, ObjectStore, StoreError
from emulator.model.record import Job
from emulator.model.workload import ChannelSpec, S3Uri
from emulator.web import models
from emulator.web.sources import Sources

COUNTED = 20_000
"""Objects of a channel that are counted."""
FILES = 2_000
"""Files of an output that are listed."""
ARCHIVE_BYTES = 4 << 30
"""An archive is read to list what is in it, unless it is larger than this."""


class JobData:
    """Asks the object store for the data of jobs."""

    def __init__(self, sources: Sources):
        self._objects = sources.objects
        # An archive of some gigabytes takes seconds to go through.
        self._archived = lru_cache(maxsize=64)(self._read_archive)

    def of(self, job: Job) -> models.JobData:
        """Raises StoreError where the store does not answer."""
        spec = job.spec
        return models.JobData(
            channels=[self._channel(channel) for channel in spec.channels],
            outputs=[
                self._output(output.name, output.target, output.archive) for output in spec.outputs
            ],
            saved=[self._output(saved.kind, saved.target, False) for saved in spec.saved],
        )

    def _channel(self, channel: ChannelSpec) -> models.Sized:
        detail = f"{channel.input_mode}, {channel.distribution}"
        if channel.s3 is None:
            system = channel.source.get("FileSystemDataSource", {})
            where = f"{system.get('FileSystemId', '')}:{system.get('DirectoryPath', '')}"
            return models.Sized(
                name=channel.name, uri=where, objects=0, bytes=0, complete=False, detail=detail
            )
        uri = S3Uri.parse(channel.s3["S3Uri"])
        found = list(islice(self._listed(uri), COUNTED + 1))
        return models.Sized(
            name=channel.name,
            uri=str(uri),
            objects=min(len(found), COUNTED),
            bytes=sum(size for _, size in found[:COUNTED]),
            complete=len(found) <= COUNTED,
            detail=detail,
        )

    def _output(self, name: str, target: S3Uri, archive: bool) -> models.Output:
        if archive:
            return self._archive(name, target)
        found = list(islice(self._listed(target), FILES + 1))
        below = len(target.key.rstrip("/")) + 1 if target.key else 0
        return models.Output(
            name=name,
            uri=str(target),
            files=[
                models.File(path=key[below:] or key, size=size, bucket=target.bucket, key=key)
                for key, size in found[:FILES]
            ],
            size=sum(size for _, size in found[:FILES]),
            archive=False,
            complete=len(found) <= FILES,
        )

    def _archive(self, name: str, target: S3Uri) -> models.Output:
        files: tuple[tuple[str, int], ...] = ()
        size, complete = 0, True
        try:
            info = self._objects.stat(target.bucket, target.key)
        except StoreError as error:
            if error.status != 404:
                raise
        else:
            size = info.size
            complete = size <= ARCHIVE_BYTES
            if complete:
                files = self._archived(target.bucket, target.key, info.etag)
        return models.Output(
            name=name,
            uri=str(target),
            files=[models.File(path=path, size=length) for path, length in files[:FILES]],
            size=size,
            archive=True,
            complete=complete and len(files) <= FILES,
        )

    def _read_archive(self, bucket: str, key: str, etag: str) -> tuple[tuple[str, int], ...]:
        """The files of a tar.gz, and one more than are shown if there are so many."""
        del etag  # another object has another one
        source: Any = BufferedReader(_Stream(self._objects, bucket, key), CHUNK)
        try:
            unpacked = igzip.GzipFile(fileobj=source)  # type: ignore[no-untyped-call]
            with tarfile.open(fileobj=unpacked, mode="r|") as tar:
                files = (member for member in tar if member.isfile())
                return tuple((one.name, one.size) for one in islice(files, FILES + 1))
        except (tarfile.TarError, EOFError, OSError, igzip.BadGzipFile):
            return ()  # the user may have put anything there

    def _listed(self, uri: S3Uri) -> Iterator[tuple[str, int]]:
        try:
            for info in self._objects.list(uri.bucket, uri.key):
                if not info.key.endswith("/"):
                    yield info.key, info.size
        except StoreError as error:
            if error.status != 404:
                raise


class _Stream(RawIOBase):
    """An object as a file that is read once, from its beginning."""

    def __init__(self, objects: ObjectStore, bucket: str, key: str):
        super().__init__()
        self._pieces = objects.read(bucket, key)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        given = self._rest[: len(buffer)]
        buffer[: len(given)] = given
        self._rest = self._rest[len(given) :]
        return len(given)
