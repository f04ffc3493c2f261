"""What the engine runs, whatever resource asked for it: frozen values without effects.

A resource (`emulator/resources/`) turns its request into a WorkloadSpec by one pure function.
Everything that starts, places, feeds, watches and ends instances works from that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from emulator.model.lifecycle import Phase, Words
from emulator.model.scope import Scope


@dataclass(frozen=True)
class S3Uri:
    """A bucket and a key or key prefix."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Uri:
        """Read `s3://bucket/key`; raises ValueError for anything else."""
        # Not urlsplit: a key may have any character, and that one drops some.
        scheme, _, rest = text.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme.lower() not in ("s3", "https") or not bucket:
            raise ValueError(f"not an S3 URI: {text}")
        return cls(bucket, key)

    def join(self, *names: str) -> S3Uri:
        """The key below this one, with exactly one slash between the parts."""
        parts = [self.key.rstrip("/"), *names] if self.key.rstrip("/") else list(names)
        return S3Uri(self.bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class ChannelSpec:
    """Input data of a workload; `source` is its DataSource in the form of InputDataConfig."""

    name: str
    input_mode: str
    """File, Pipe or FastFile."""
    source: Mapping[str, Any]
    path: str
    """The directory in which instances find it."""
    distribution: str = "FullyReplicated"
    compression: str = "None"
    record_wrapper: str = "None"
    content_type: str | None = None
    shuffle_seed: int | None = None
    manifest: bool = True
    """Whether `<path>-manifest` lists the objects."""

    @property
    def s3(self) -> Mapping[str, Any] | None:
        """The S3DataSource, if the channel has one."""
        source: Mapping[str, Any] | None = self.source.get("S3DataSource")
        return source

    @property
    def s3_data_type(self) -> str:
        """S3Prefix, ManifestFile or AugmentedManifestFile ("" for a file system)."""
        return str(self.s3["S3DataType"]) if self.s3 else ""

    @property
    def instance_groups(self) -> tuple[str, ...]:
        """The groups whose instances get this channel; empty means all."""
        return tuple((self.s3 or {}).get("InstanceGroupNames", ()))


@dataclass(frozen=True)
class InstanceGroup:
    """Instances of one type; most workloads have one group of all their instances."""

    name: str
    instance_type: str
    count: int


@dataclass(frozen=True)
class Host:
    """One instance of the workload, by the name its peers call it."""

    name: str
    """algo-1 … algo-n"""
    instance_type: str
    group: str


@dataclass(frozen=True)
class Volume:
    """A path of every instance behind which lies a directory that ends with the workload."""

    path: str
    directory: str
    """Below the instance's own directory on this machine."""


@dataclass(frozen=True)
class SavedDirectory:
    """A directory of the instances that is copied to S3 while they run."""

    kind: str
    """Names it in logs and files; each kind of a workload once."""
    path: str
    """On the instance, without a slash at the end."""
    target: S3Uri
    """The prefix it goes to."""
    mirrored: bool = False
    """Files are replaced whole, and what is deleted on the instances is deleted in S3; else files
    may be copied at any length, and nothing is deleted."""
    manifest: str | None = None
    """What S3 holds is brought back before the instances start, and listed at this path."""


@dataclass(frozen=True)
class Output:
    """A directory of the instances that goes to S3 once they have ended, merged over all."""

    name: str
    """In logs, and of the directory in which it is kept if S3 does not take it."""
    path: str
    """On the instance."""
    target: S3Uri
    archive: bool = False
    """As one tar.gz of that name; else file by file below it."""


@dataclass(frozen=True)
class WorkloadId:
    """Which workload is meant: unique on an emulator."""

    kind: str
    """As in ARNs: training-job, processing-job."""
    scope: Scope
    name: str

    @property
    def arn(self) -> str:
        return self.scope.arn(self.kind, self.name)


PoolKey: TypeAlias = tuple[tuple[str, Any], ...]
"""What two workloads must have in common to use the same warm pool; hashable."""


@dataclass(frozen=True)
class WorkloadSpec:
    """A validated request in the engine's own terms.

    `request` keeps every member as it was sent, so that Describe can echo what the emulator
    itself does not act on; nothing below `resources/` reads it.
    """

    kind: Kind = field(repr=False)
    scope: Scope
    name: str
    role_arn: str
    image: str | None
    entrypoint: tuple[str, ...] | None
    """Replaces the image's own entrypoint when it is not None."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    """The request's own variables."""
    platform: Mapping[str, str]
    """Variables of the platform, which the request cannot replace."""
    groups: tuple[InstanceGroup, ...]
    volumes: tuple[Volume, ...]
    directories: tuple[str, ...]
    """Paths on the volumes that are there before the instances start, beside the channels'."""
    channels: tuple[ChannelSpec, ...]
    outputs: tuple[Output, ...]
    output_uris: tuple[str, ...]
    """Where outputs go, as the request says it: their buckets must exist."""
    saved: tuple[SavedDirectory, ...]
    failure_file: str
    """The path of the script's own account of what went wrong."""
    max_runtime: int
    """Seconds that the instances may run."""
    network_isolation: bool
    request: Mapping[str, Any] = field(repr=False)
    tags: Mapping[str, str] = field(default_factory=dict)
    """As the request has them."""
    message_file: str | None = None
    """The path of what the script says at its end, whatever end that is."""
    needs_image: bool = False
    """It runs the image's own command: without the image there is nothing to run."""
    artifacts: str | None = None
    """What Describe names as the outcome, once the outputs are in S3."""
    metric_definitions: tuple[tuple[str, str], ...] = ()
    """Pairs of a metric's name and the regular expression that finds its values in the output."""
    ports: tuple[str, ...] = ()
    """Of its launcher, which every such workload listens on: see RuntimeTraits.shares_ports."""
    spot: bool = False
    """Its instances may be taken away; it goes on with others then."""
    max_wait: int | None = None
    """Seconds from its creation to its end."""
    max_pending: int | None = None
    """Seconds for which it may wait for capacity."""
    retries: int = 0
    """How often it is tried again after an error of the platform's."""
    keep_alive: int = 0
    """Seconds for which its instances are kept for the next one."""
    pool_key: PoolKey | None = field(default=None, repr=False)
    """None where no warm pool can fit."""

    @property
    def id(self) -> WorkloadId:
        return WorkloadId(self.kind.name, self.scope, self.name)

    @property
    def arn(self) -> str:
        return self.id.arn

    @property
    def label(self) -> str:
        """What log lines and errors call it: `training job NAME`."""
        return f"{self.kind.noun} {self.name}"

    @property
    def lasting(self) -> bool:
        """It comes to its end: see Claim."""
        return False

    @property
    def words(self) -> Words:
        return self.kind.words

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All instances, numbered through the groups in the order of the request."""
        owners = [group for group in self.groups for _ in range(group.count)]
        return tuple(
            Host(f"algo-{number}", group.instance_type, group.name)
            for number, group in enumerate(owners, start=1)
        )

    def channels_of(self, host: Host) -> tuple[ChannelSpec, ...]:
        """The channels this instance gets: those of its group, and those of every group."""
        return tuple(
            channel
            for channel in self.channels
            if not channel.instance_groups or host.group in channel.instance_groups
        )


ReadRequest: TypeAlias = Callable[[Mapping[str, Any], Scope], WorkloadSpec]
"""Reads a request that the validator has accepted. Pure; raises ValueError for an address that is
well formed but names no bucket."""
ConfigFiles: TypeAlias = Callable[[WorkloadSpec, Host, str], Mapping[str, str]]
"""By path on the instance, the texts that the platform puts there. The last argument is the name of
the network interface."""


@dataclass(frozen=True)
class Kind:
    """What all workloads of a resource have in common: its names, its words, its requests."""

    name: str
    """As in ARNs and in the database: training-job, processing-job."""
    noun: str
    """For people: training job, processing job."""
    outputs: str
    """What logs call the outputs of its workloads, with a capital letter: Model and output."""
    log_group: str
    """Of its instances' output, and the namespace of what is measured of them."""
    dimension: str
    """Under which its metrics are kept: TrainingJobName."""
    words: Words
    not_found: Callable[[str], str]
    """What the service says of a name that no workload of the kind has."""
    read: ReadRequest
    config_files: ConfigFiles
    notes: Callable[[WorkloadSpec], tuple[str, ...]]
    """Lines for the beginning of the log: what is done otherwise than asked."""
    phase_name: Callable[[Phase], str]
    """What answers and log lines call a phase."""
    directory_prefix: str = ""
    """Of its workloads' directories on this machine. Two kinds never share one, and no name has
    an underscore: `processing-job_`."""
