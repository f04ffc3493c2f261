"""What every input mode does; tests/contract/test_channel.py holds each one to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import Protocol

from emulator.data.cache.objects import Fetch, ObjectCache, Wanted
from emulator.data.objectstore.objects import ObjectStore, ignore_bytes
from emulator.data.objectstore.transfer import Downloader, in_parallel
from emulator.model.errors import ClientError, JobError
from emulator.model.plan import Mount
from emulator.model.workload import ChannelSpec, Host

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes there are, from one thread at a time."""


class DataDownloadFailed(ClientError):
    """The input data cannot be brought to the instances; the prefix is the service's own."""

    def __init__(self, reason: str):
        super().__init__(f"Data download failed:{reason}")


@dataclass(frozen=True)
class Sources:
    """Where input data comes from, and what this machine can do to show it to instances."""

    downloader: Downloader
    cache: ObjectCache
    scratch: Path
    """A directory for what lives no longer than a job: mounts, spooled records."""
    file_systems: Mapping[str, Path] = field(default_factory=dict)
    """The directories that stand for EFS and FSx file systems, by their id."""
    overlays: bool = False
    """Can an instance see a directory through a writable layer of its own?"""
    engine: bool = False
    """Do the instances belong to a container engine, another user's program?"""
    sees_mounts: bool = True
    """Do instances see what is mounted here?"""

    @property
    def store(self) -> ObjectStore:
        return self.downloader.store

    def make_room(self, missing: Iterable[Wanted], place: Path) -> tuple[int, int]:
        """Evict for what is about to be fetched; the bytes it needs, and those free at `place`."""
        needed = sum(each.info.size for each in missing)
        self.cache.shrink(needed)
        return needed, disk_usage(place).free

    def fetch(
        self, cancelled: Callable[[], bool], on_bytes: Callable[[int], None] = ignore_bytes
    ) -> Fetch:
        """What ObjectCache.hold fetches objects with: many at a time."""

        def fetch_one(job: tuple[Wanted, Path], stopping: Callable[[], bool]) -> None:
            wanted, target = job
            self.downloader.download(wanted.bucket, wanted.info, target, on_bytes, stopping)

        return lambda jobs: in_parallel(fetch_one, jobs, cancelled)


@dataclass(frozen=True)
class Staging:
    """One channel of one job, and all that is needed to bring it to the instances."""

    channel: ChannelSpec
    hosts: Sequence[Host]
    """Every instance of the job, in the order of their numbers."""
    directories: Mapping[str, Path]
    """By host name, where the channel's path lies on this machine."""
    layers: Mapping[str, Path]
    """By host name, a directory outside the instance's mounts, for what it changes."""
    sources: Sources
    progress: Progress
    cancelled: Callable[[], bool]
    depth: int = 1
    """How many parts at the end of the place beside which pipes are made a script can replace by
    links."""

    @property
    def receivers(self) -> tuple[Host, ...]:
        """The instances that get this channel: those of its instance groups, or all."""
        groups = self.channel.instance_groups
        return tuple(host for host in self.hosts if not groups or host.group in groups)

    @property
    def sharded(self) -> bool:
        """Does each instance get a part of its own?"""
        return self.channel.distribution == "ShardedByS3Key"

    @property
    def target(self) -> str:
        """Where an instance sees the channel."""
        return self.channel.path

    def directory(self, host: Host) -> Path:
        """Where this channel's files go on an instance."""
        return self.directories[host.name]

    def write_manifests(self, text: str) -> None:
        """Put the list of the channel's objects beside its files, if there is to be one."""
        for host in self.receivers if self.channel.manifest else ():
            directory = self.directory(host)
            manifest = directory.with_name(f"{directory.name}-manifest")
            manifest.write_text(text, encoding="utf-8", errors="surrogateescape")

    def layer(self, host: Host) -> Path:
        """Where an instance's changes to this channel go."""
        return self.layers[host.name] / self.channel.name


def nothing() -> None:
    """There is nothing to end."""


def no_trouble() -> JobError | None:
    """Nothing can go wrong any more."""
    return None


@dataclass(frozen=True)
class StagedChannel:
    """A channel that is ready for the training to start."""

    name: str
    objects: int
    """Objects of the whole channel, however they are spread over the instances."""
    bytes: int
    mounts: Mapping[str, Mount] = field(default_factory=dict, compare=False)
    """By host name, what an instance sees in the place of the channel's directory."""
    close: Callable[[], None] = field(default=nothing, compare=False)
    """Ends what serves the channel; to be called once no instance runs any more."""
    trouble: Callable[[], JobError | None] = field(default=no_trouble, compare=False)
    """Why the data that the instances see is not what was asked for, if so."""
    release: Callable[[], None] = field(default=nothing, compare=False)
    """Lets what was downloaded go as soon as its place is needed; after `close`."""


class Channel(Protocol):
    """An input mode: makes a channel ready on every instance that receives it.

    Raises ClientError if the data is at fault, InternalServerError if the object store or
    the disk fails, and Cancelled soon after `cancelled()` turned true.
    """

    def __call__(self, staging: Staging) -> StagedChannel: ...
