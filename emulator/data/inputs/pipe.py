"""Pipe mode: a named pipe an epoch, with the objects one after another."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emulator.data.inputs.augmented import AugmentedManifest
from emulator.data.inputs.base import DataDownloadFailed, StagedChannel, Staging, nothing
from emulator.data.inputs.failures import in_the_services_words, job_error
from emulator.data.inputs.fifo import Fifo, ReaderLeft
from emulator.data.inputs.prefetch import ahead
from emulator.data.inputs.records import BadGzip, gunzip, record
from emulator.data.inputs.selection import Selection, select, share, source_of
from emulator.data.objectstore.objects import CHUNK, Cancelled, ObjectInfo, StoreError
from emulator.model.errors import InternalServerError, JobError
from emulator.model.workload import Host, S3Uri

_IN_MEMORY = 8 << 20
_JOIN_SECONDS = 30.0
log = logging.getLogger(__name__)

Ended = Callable[[], bool]


@dataclass(frozen=True)
class Item:
    """What becomes one record: an object, or a text of its own."""

    text: str = ""
    object: S3Uri | None = None
    info: ObjectInfo | None = None
    """None where nobody has looked at the object yet."""


Epoch = Callable[[int], Iterable[Item]]
"""What one instance reads in an epoch (from 0)."""


def stage(staging: Staging) -> StagedChannel:
    """Make the first pipe on every instance; a thread each serves it as long as the job runs."""
    with in_the_services_words(staging.channel.name, str(source_of(staging))):
        if staging.channel.s3_data_type == "AugmentedManifestFile":
            return _stage_annotated(staging)
        selection = select(staging)
        staging.write_manifests(selection.manifest)
        feeders = _start(staging, partial(_plain, staging, selection))
        return _staged(staging, feeders, len(selection.objects), selection.bytes, nothing)


def _stage_annotated(staging: Staging) -> StagedChannel:
    lines = AugmentedManifest.fetch(staging, source_of(staging))
    feeders = _start(staging, partial(_annotated, staging, lines))
    return _staged(staging, feeders, len(lines), lines.size, lines.close)


def _start(staging: Staging, epoch: Callable[[int, int], Iterable[Item]]) -> list[Feeder]:
    feeders = [
        Feeder(staging, host, partial(epoch, index)) for index, host in enumerate(staging.receivers)
    ]
    try:
        for feeder in feeders:
            feeder.start()
    except JobError:
        _end(feeders)
        raise
    return feeders


def _staged(
    staging: Staging, feeders: Sequence[Feeder], count: int, size: int, release: Callable[[], None]
) -> StagedChannel:
    def close() -> None:
        _end(feeders)
        release()

    def trouble() -> JobError | None:
        return next((feeder.error for feeder in feeders if feeder.error), None)

    return StagedChannel(staging.channel.name, count, size, {}, close, trouble)


def _end(feeders: Sequence[Feeder]) -> None:
    for feeder in feeders:
        feeder.end()
    for feeder in feeders:
        feeder.join()


class Feeder:
    """Writes one channel to one instance, epoch after epoch, until it is told to end."""

    def __init__(self, staging: Staging, host: Host, epoch: Epoch):
        self._staging = staging
        self._path = staging.directory(host)
        self._epoch = epoch
        self._ended = threading.Event()
        self._there = threading.Event()
        self.error: JobError | None = None
        """Why it gave up, if it did."""
        self._gzip = staging.channel.compression == "Gzip"
        self._source = str(source_of(staging))
        self._thread = threading.Thread(
            target=self._run, name=f"pipe {staging.channel.name} of {host.name}", daemon=True
        )

    def start(self) -> None:
        """The first pipe is there when this returns."""
        self._thread.start()
        self._there.wait()
        if self.error:
            raise self.error

    def end(self) -> None:
        """Stop, whatever it waits for."""
        self._ended.set()

    def join(self) -> None:
        if self._thread.ident:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        name = self._staging.channel.name
        try:
            number = 0
            while not self._ended.is_set():
                self._serve(self._path.with_name(f"{self._path.name}_{number}"), number)
                number += 1
        except Cancelled:
            log.debug("pipe %s: ended while it waited for the store", name)
        except JobError as error:
            self.error = error
        except (StoreError, OSError) as error:
            self.error = job_error(name, self._source, error)
        except Exception as error:  # noqa: BLE001 - a thread's top: data must not end in silence
            self.error = InternalServerError(f"input data of {name}: {error!r}")
        finally:
            if self.error:
                log.warning("pipe %s: %s", name, self.error)
            self._there.set()

    def _serve(self, path: Path, number: int) -> None:
        """One epoch: over when all is written, or when the reader closes the pipe."""
        with Fifo(path, self._ended, self._staging.depth) as fifo:
            self._there.set()
            if not fifo.wait_for_reader():
                return
            try:
                items, ended = self._epoch(number), self._ended.is_set
                with closing(ahead(self._content, items, ended)) as contents:
                    for content in contents:
                        for piece in self._wrapped(content):
                            fifo.write(piece)
            except ReaderLeft:
                log.debug("%s: closed early", path)

    def _content(self, item: Item, ended: Ended) -> Iterable[bytes]:
        """A small object whole and checked; a large one is only fetched as it is read."""
        if item.object is None:
            return [item.text.encode()]
        bucket, key = item.object.bucket, item.object.key
        downloader = self._staging.sources.downloader
        look = partial(downloader.reader.head, bucket, key)
        info = item.info or downloader.patience(ended).call(look)
        content: Iterable[bytes]
        if info.size <= CHUNK:
            content = [downloader.fetch(bucket, info, ended)]
        else:
            content = downloader.stream(bucket, info, ended)
        return _unpacked(content, item.object) if self._gzip else content

    def _wrapped(self, content: Iterable[bytes]) -> Iterator[bytes]:
        if self._staging.channel.record_wrapper != "RecordIO":
            yield from content
            return
        # A record begins with its length, which only the whole content tells.
        folder = str(self._staging.sources.scratch)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder) as whole:
            for piece in content:
                whole.write(piece)
            size = whole.tell()
            whole.seek(0)
            yield from record(whole, size)


def _unpacked(pieces: Iterable[bytes], uri: S3Uri) -> Iterator[bytes]:
    try:
        yield from gunzip(pieces)
    except BadGzip as error:
        raise DataDownloadFailed(f"Failed to download data. S3 key: {uri}: {error}") from error


def _plain(staging: Staging, selection: Selection, index: int, number: int) -> Iterator[Item]:
    for each in share(selection.objects, staging, index, number):
        yield Item(object=S3Uri(each.bucket, each.info.key), info=each.info)


def _annotated(
    staging: Staging, lines: AugmentedManifest, index: int, number: int
) -> Iterator[Item]:
    order: Sequence[int] = share(range(len(lines)), staging, index, number)
    for line in order:
        for attribute in lines.attributes(line):
            yield Item(attribute.text, attribute.reference)
