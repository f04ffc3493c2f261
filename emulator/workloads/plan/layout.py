"""Where an instance's files lie on this machine, and what is there before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emulator.model.errors import InternalServerError
from emulator.model.plan import Mount, RuntimeTraits
from emulator.model.workload import Host, Volume, WorkloadSpec


@dataclass(frozen=True)
class InstanceDirs:
    """The directories of one instance; `root` is `<workload's directory>/algo-N`."""

    root: Path
    volumes: tuple[Volume, ...]

    def at(self, path: str) -> Path:
        """Where a path of the instance lies on this machine; it must be on a volume."""
        volume, below = self._on_volume(path)
        return self.root / volume.directory / below

    def depth(self, path: str) -> int:
        """How many parts at the end of that place the instance can replace by links; or 1."""
        _, below = self._on_volume(path)
        return max(1, len(below.parts))

    def _on_volume(self, path: str) -> tuple[Volume, PurePosixPath]:
        for volume in sorted(self.volumes, key=lambda each: len(each.path), reverse=True):
            if PurePosixPath(path).is_relative_to(volume.path):
                return volume, PurePosixPath(path).relative_to(volume.path)
        raise LookupError(f"{path} is on no volume of the instance")

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """Each volume on its own: images may have files of their own beside them."""
        return tuple(Mount(self.root / each.directory, each.path) for each in self.volumes)

    @property
    def tmp(self) -> Path:
        """The instance's /tmp: on the workload's volume, as on the service."""
        return self.root / "tmp"

    @property
    def layers(self) -> Path:
        """What the instance changes in channels that it shares with others; outside its mounts."""
        return self.root / "layers"

    @property
    def scratch(self) -> Path:
        """The runtime's own; no part of it is the workload's output."""
        return self.root / "scratch"

    def create(self, spec: WorkloadSpec, host: Host, traits: RuntimeTraits) -> None:
        """Make all directories and write the config files. Raises OSError.

        What an earlier workload left is nothing to build on: its links would lead what is written
        here, and a checkpoint that is restored, to other places. Raises InternalServerError.
        """
        try:
            self.root.mkdir(parents=True)
        except FileExistsError as error:
            raise InternalServerError(
                f"{self.root} has files of an earlier job that could not be removed"
            ) from error
        # A Pipe channel has no directory: its FIFOs lie beside the place of one.
        channels = (c.path for c in spec.channels_of(host) if c.input_mode != "Pipe")
        volumes = (volume.path for volume in self.volumes)
        for path in (*volumes, *spec.directories, *channels):
            self.at(path).mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir()
        self.tmp.mkdir(exist_ok=True)
        self.tmp.chmod(0o1777)
        for path, text in spec.kind.config_files(spec, host, traits.network_interface).items():
            self.at(path).write_text(text, encoding="utf-8")


def instances_below(directory: Path, spec: WorkloadSpec) -> Mapping[str, InstanceDirs]:
    """Host name → where its directories are, or would be."""
    return {host.name: InstanceDirs(directory / host.name, spec.volumes) for host in spec.hosts}


def depth_of(instances: Mapping[str, InstanceDirs], path: str) -> int:
    """InstanceDirs.depth of a path, which is the same for all instances of a workload."""
    return next(iter(instances.values())).depth(path)


def create_instances(
    directory: Path, spec: WorkloadSpec, traits: RuntimeTraits
) -> Mapping[str, InstanceDirs]:
    """Host name → its directories below `directory`, all made and filled; raises as `create`."""
    instances = instances_below(directory, spec)
    for host in spec.hosts:
        instances[host.name].create(spec, host, traits)
    return instances
