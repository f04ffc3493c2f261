"""EFS and FSx: a directory of this machine stands for each file system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from emulator.data.inputs.base import StagedChannel, Staging
from emulator.model.errors import ClientError, InternalServerError
from emulator.model.plan import Mount
from emulator.model.workload import ChannelSpec


def stage(staging: Staging) -> StagedChannel:
    """Show the directory itself in the channel's place; what is written there stays.

    Nothing is copied, so there are no objects to count.
    """
    source = staging.channel.source["FileSystemDataSource"]
    directory = directory_of(staging.channel, staging.sources.file_systems)
    # FileSystemAccessMode: ro or rw (API reference).
    read_only = source.get("FileSystemAccessMode", "ro") != "rw"
    for host in staging.receivers:
        staging.directory(host).mkdir(parents=True, exist_ok=True)
    mount = Mount(directory, staging.target, read_only)
    return StagedChannel(
        staging.channel.name, 0, 0, {host.name: mount for host in staging.receivers}
    )


def directory_of(channel: ChannelSpec, file_systems: Mapping[str, Path]) -> Path:
    """What DirectoryPath means on this machine. Raises ClientError, saying what to set."""
    source = channel.source.get("FileSystemDataSource")
    if source is None:
        raise InternalServerError(f"channel {channel.name} has no FileSystemDataSource")
    name, path = source["FileSystemId"], source["DirectoryPath"]
    if name not in file_systems:
        raise ClientError(
            f"No directory stands for the file system {name} (channel {channel.name}). Name one "
            f'in the emulator\'s settings: EMULATOR_FILE_SYSTEMS=\'{{"{name}": "/directory"}}\'.'
        )
    if ".." in PurePosixPath(path).parts:
        raise ClientError(f"DirectoryPath {path} leads out of the file system {name}.")
    directory = file_systems[name] / str(path).lstrip("/")
    if not directory.is_dir():
        raise ClientError(
            f"The file system {name} has no directory {path}: {directory} is not there."
        )
    return directory
