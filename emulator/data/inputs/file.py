"""File mode: every object is a file on the instance before the training starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from pathlib import Path
from posixpath import dirname
from threading import Lock

from emulator.data.cache.objects import Held, Wanted
from emulator.data.cache.reflink import clone
from emulator.data.inputs.base import DataDownloadFailed, Progress, StagedChannel, Staging
from emulator.data.inputs.failures import DISK_FULL, in_the_services_words
from emulator.data.inputs.selection import Selection, select, share, source_of
from emulator.data.objectstore.transfer import in_parallel
from emulator.model.plan import Mount
from emulator.model.workload import Host


def stage(staging: Staging) -> StagedChannel:
    """Fetch what the cache lacks, then show every instance its own writable view of it."""
    held: list[Held | None] = []
    with in_the_services_words(staging.channel.name, str(source_of(staging))):
        try:
            selection = select(staging)
            count = _Counter(staging.progress, selection.bytes)
            staging.write_manifests(selection.manifest)
            shares = _shares(staging, selection)
            for files in shares:
                held.append(_hold(staging, files, count) if files else None)
            mounts = {
                host.name: mount
                for host, files, tree in zip(
                    staging.receivers, cycle(shares), cycle(held), strict=False
                )
                if (mount := _show(staging, host, files, tree))
            }
            count.finish()
        except BaseException:
            _release(held)
            raise
    return StagedChannel(
        staging.channel.name,
        len(selection.objects),
        selection.bytes,
        mounts,
        release=lambda: _release(held),
    )


def _shares(staging: Staging, selection: Selection) -> list[Sequence[Wanted]]:
    """One for each instance, or one for all of them."""
    number = len(staging.receivers)
    return [
        share(selection.objects, staging, index)
        for index in range(number if staging.sharded else min(1, number))
    ]


def _hold(staging: Staging, files: Sequence[Wanted], count: _Counter) -> Held:
    """A tree of the cache with the files, fetched where they are missing."""
    sources = staging.sources

    def begin(missing: Sequence[Wanted]) -> None:
        place = staging.directory(staging.receivers[0]).parent
        needed, free = sources.make_room(missing, place)
        # Fail at once rather than after hours.
        if needed > free:
            raise DataDownloadFailed(
                f"{DISK_FULL} ({needed} bytes are needed, {free} are free: {place})"
            )
        count.add(sum(each.info.size for each in files) - needed)

    layers = [staging.layer(host) for host in staging.receivers] if sources.overlays else ()
    fetch = sources.fetch(staging.cancelled, count.add)
    return sources.cache.hold(files, fetch, staging.cancelled, layers, begin)


def _show(staging: Staging, host: Host, files: Sequence[Wanted], tree: Held | None) -> Mount | None:
    """Give an instance its files: as a layer above the cache, or as copies."""
    directory = staging.directory(host)
    directory.mkdir(parents=True, exist_ok=True)
    if tree is None:
        return None
    if staging.sources.overlays:
        layer = staging.layer(host)
        for part in ("upper", "work"):
            (layer / part).mkdir(parents=True, exist_ok=True)
        return Mount(tree.path, staging.target, layer=layer)
    _copy(staging, tree.path, directory, files)
    return None


def _copy(staging: Staging, tree: Path, directory: Path, files: Sequence[Wanted]) -> None:
    """Copies share their blocks with the cache where the file system can do that."""
    for folder in sorted({dirname(each.path) for each in files}):
        (directory / folder).mkdir(parents=True, exist_ok=True)

    def copy(each: Wanted, stopping: Callable[[], bool]) -> None:
        clone(tree / each.path, directory / each.path, stopping)

    in_parallel(copy, files, staging.cancelled, threads=4)


def _release(held: Iterable[Held | None]) -> None:
    for tree in filter(None, held):
        tree.release()


class _Counter:
    """Adds up what many threads have done and tells the one who wants to know."""

    def __init__(self, progress: Progress, total: int):
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = Lock()
        progress(0, total)

    def add(self, count: int) -> None:
        with self._lock:
            self._done = min(self._done + count, self._total)
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """What another job has fetched meanwhile is here, too."""
        self.add(self._total)
