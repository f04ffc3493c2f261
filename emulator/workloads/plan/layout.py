"""Where an instance's files lie on this machine, and what is there before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emulator.model.errors import InternalServerError
from emulator.model.job import Host, JobSpec
from emulator.model.plan import RuntimeTraits
from emulator.workloads.plan.config_files import channels_of, config_files
from emulator.workloads.plan.saved import checkpoint_path, mounted, unmounted


@dataclass(frozen=True)
class InstanceDirs:
    """The directories of one instance; `root` is `<job directory>/algo-N`."""

    root: Path

    @property
    def input(self) -> Path:
        """/opt/ml/input"""
        return self.root / "ml" / "input"

    @property
    def config(self) -> Path:
        """/opt/ml/input/config"""
        return self.input / "config"

    @property
    def data(self) -> Path:
        """/opt/ml/input/data"""
        return self.input / "data"

    def channel(self, name: str) -> Path:
        """/opt/ml/input/data/<channel>"""
        return self.data / name

    def channel_manifest(self, name: str) -> Path:
        """/opt/ml/input/data/<channel>-manifest: the list of a channel's objects."""
        return self.data / f"{name}-manifest"

    @property
    def model(self) -> Path:
        """/opt/ml/model"""
        return self.root / "ml" / "model"

    @property
    def output(self) -> Path:
        """/opt/ml/output"""
        return self.root / "ml" / "output"

    @property
    def output_data(self) -> Path:
        """/opt/ml/output/data: what becomes output.tar.gz."""
        return self.output / "data"

    @property
    def failure(self) -> Path:
        """/opt/ml/output/failure: the script's own account of what went wrong."""
        return self.output / "failure"

    @property
    def checkpoints(self) -> Path:
        """/opt/ml/checkpoints, or what CheckpointConfig.LocalPath names outside other mounts."""
        return self.root / "ml" / "checkpoints"

    def saved(self, path: str) -> Path:
        """A directory that the job wants in S3 and that lies in no other mount."""
        return self.root / "ml" / "saved" / path.strip("/").replace("/", "-")

    def behind(self, spec: JobSpec, path: str) -> Path:
        """Where a path of the instance lies on this machine, for what `saved.py` names."""
        mount, below = self._mount_of(spec, path)
        return mount / below

    def depth(self, spec: JobSpec, path: str) -> int:
        """How many parts at the end of that place the instance can replace by links; or 1."""
        _, below = self._mount_of(spec, path)
        return max(1, len(below.parts))

    def _mount_of(self, spec: JobSpec, path: str) -> tuple[Path, PurePosixPath]:
        sources = (self.input, self.model, self.output, self.checkpoints)
        places = dict(zip(mounted(spec), sources, strict=False))
        for target in sorted(places, key=len, reverse=True):
            if PurePosixPath(path).is_relative_to(target):
                return places[target], PurePosixPath(path).relative_to(target)
        return self.saved(path), PurePosixPath()

    @property
    def tmp(self) -> Path:
        """The instance's /tmp: on the job's volume, as on the service."""
        return self.root / "tmp"

    @property
    def layers(self) -> Path:
        """What the instance changes in channels that it shares with others; outside its mounts."""
        return self.root / "layers"

    @property
    def scratch(self) -> Path:
        """The runtime's own; no part of it is the job's output."""
        return self.root / "scratch"

    def create(self, spec: JobSpec, host: Host, traits: RuntimeTraits) -> None:
        """Make all directories and write the config files. Raises OSError.

        What an earlier job left is nothing to build on: its links would lead what is written
        here, and a checkpoint that is restored, to other places. Raises InternalServerError.

        /opt/ml/output/intermediate is left out: the toolkit uploads it only when it
        made the directory itself.
        """
        try:
            self.root.mkdir(parents=True)
        except FileExistsError as error:
            raise InternalServerError(
                f"{self.root} has files of an earlier job that could not be removed"
            ) from error
        # A Pipe channel has no directory: its FIFOs lie directly below input/data.
        channels = [c for c in channels_of(spec, host) if c.input_mode != "Pipe"]
        for directory in (
            self.config,
            self.data,
            self.model,
            self.output_data,
            self.behind(spec, checkpoint_path(spec)),
            self.scratch,
            *(self.channel(channel.name) for channel in channels),
            *(self.saved(path) for path in unmounted(spec)),
        ):
            directory.mkdir(parents=True, exist_ok=True)
        self.tmp.mkdir(exist_ok=True)
        self.tmp.chmod(0o1777)
        for name, content in config_files(spec, host, traits).items():
            (self.config / name).write_text(content, encoding="utf-8")


def instances_below(job_dir: Path, spec: JobSpec) -> Mapping[str, InstanceDirs]:
    """Host name → where its directories are, or would be."""
    return {host.name: InstanceDirs(job_dir / host.name) for host in spec.hosts}


def create_instances(
    job_dir: Path, spec: JobSpec, traits: RuntimeTraits
) -> Mapping[str, InstanceDirs]:
    """Host name → its directories below `job_dir`, all made and filled; raises as `create`."""
    instances = instances_below(job_dir, spec)
    for host in spec.hosts:
        instances[host.name].create(spec, host, traits)
    return instances
