"""What every input mode does; tests/contract/test_channel.py holds each one to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulator.model.errors import ClientError
from emulator.model.job import ChannelSpec, Host
from emulator.storage.objects import ObjectStore

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes there are, from one thread at a time."""


class DataDownloadFailed(ClientError):
    """The input data cannot be brought to the instances; the prefix is the service's own."""

    def __init__(self, reason: str):
        super().__init__(f"Data download failed:{reason}")


@dataclass(frozen=True)
class Staging:
    """One channel of one job, and all that is needed to bring it to the instances."""

    channel: ChannelSpec
    hosts: Sequence[Host]
    """Every instance of the job, in the order of their numbers."""
    directories: Mapping[str, Path]
    """By host name, the directory that the instance sees as /opt/ml/input/data."""
    store: ObjectStore
    progress: Progress
    cancelled: Callable[[], bool]

    @property
    def receivers(self) -> tuple[Host, ...]:
        """The instances that get this channel: those of its instance groups, or all."""
        groups = self.channel.instance_groups
        return tuple(host for host in self.hosts if not groups or host.group in groups)

    def directory(self, host: Host) -> Path:
        """Where this channel's files go on an instance."""
        return self.directories[host.name] / self.channel.name

    def manifest(self, host: Host) -> Path:
        """Where this channel's manifest goes on an instance."""
        return self.directories[host.name] / f"{self.channel.name}-manifest"


@dataclass(frozen=True)
class StagedChannel:
    """A channel that is ready for the training to start."""

    name: str
    objects: int
    """Objects of the whole channel, however they are spread over the instances."""
    bytes: int


class Channel(Protocol):
    """An input mode: makes a channel ready on every instance that receives it.

    Raises ClientError if the data is at fault, InternalServerError if the object store or
    the disk fails, and Cancelled soon after `cancelled()` turned true.
    """

    def __call__(self, staging: Staging) -> StagedChannel: ...
