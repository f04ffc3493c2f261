"""A training job as it was asked for: the validated request, read once into frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.model.scope import Scope

HOMOGENEOUS_GROUP = "homogeneousCluster"
"""Name of the one instance group of a job that has no InstanceGroups, as seen from the service."""

DEFAULT_CHECKPOINT_PATH = "/opt/ml/checkpoints"
DEFAULT_MAX_RUNTIME = 86_400


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
    """One entry of InputDataConfig; `source` is its DataSource as sent."""

    name: str
    input_mode: str
    """File, Pipe or FastFile: the channel's own, else the job's."""
    source: Mapping[str, Any]
    distribution: str = "FullyReplicated"
    compression: str = "None"
    record_wrapper: str = "None"
    content_type: str | None = None
    shuffle_seed: int | None = None

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

    @classmethod
    def from_request(cls, channel: Mapping[str, Any], job_mode: str) -> ChannelSpec:
        source = channel["DataSource"]
        return cls(
            name=channel["ChannelName"],
            input_mode=channel.get("InputMode", job_mode),
            source=source,
            distribution=source.get("S3DataSource", {}).get(
                "S3DataDistributionType", "FullyReplicated"
            ),
            compression=channel.get("CompressionType", "None"),
            record_wrapper=channel.get("RecordWrapperType", "None"),
            content_type=channel.get("ContentType"),
            shuffle_seed=channel.get("ShuffleConfig", {}).get("Seed"),
        )


@dataclass(frozen=True)
class InstanceGroup:
    """Instances of one type; a plain job has one group of all its instances."""

    name: str
    instance_type: str
    count: int


@dataclass(frozen=True)
class Host:
    """One instance of the job, by the name its peers call it."""

    name: str
    """algo-1 … algo-n"""
    instance_type: str
    group: str


@dataclass(frozen=True)
class Checkpoints:
    """CheckpointConfig, with the default path filled in."""

    s3_uri: str
    local_path: str = DEFAULT_CHECKPOINT_PATH


@dataclass(frozen=True)
class JobSpec:
    """A CreateTrainingJob request in the emulator's own terms.

    `request` keeps every member as it was sent, so that Describe can echo what the
    emulator itself does not act on.
    """

    scope: Scope
    name: str
    role_arn: str
    image: str | None
    algorithm_name: str | None
    entrypoint: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    hyperparameters: Mapping[str, str]
    environment: Mapping[str, str]
    channels: tuple[ChannelSpec, ...]
    output_path: str
    output_compression: str
    """GZIP or NONE."""
    groups: tuple[InstanceGroup, ...]
    max_runtime: int
    """Seconds of training before the job is stopped."""
    network_isolation: bool
    checkpoints: Checkpoints | None
    request: Mapping[str, Any] = field(repr=False)
    spot: bool = False
    """EnableManagedSpotTraining."""
    max_wait: int | None = None
    """MaxWaitTimeInSeconds of a spot job, from its creation to its end."""
    max_pending: int | None = None
    """MaxPendingTimeInSeconds: how long it may wait for accelerated instances."""
    retries: int = 0
    """RetryStrategy.MaximumRetryAttempts."""

    @property
    def arn(self) -> str:
        return self.scope.training_job_arn(self.name)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All instances, numbered through the groups in the order of the request."""
        owners = [group for group in self.groups for _ in range(group.count)]
        return tuple(
            Host(f"algo-{number}", group.instance_type, group.name)
            for number, group in enumerate(owners, start=1)
        )

    @property
    def output(self) -> S3Uri:
        """`<S3OutputPath>/<job>/output`: model.tar.gz and output.tar.gz go below it."""
        return S3Uri.parse(self.output_path).join(self.name, "output")

    @property
    def model_artifacts(self) -> str:
        """ModelArtifacts.S3ModelArtifacts as Describe gives it."""
        return str(
            self.output.join("model" if self.output_compression == "NONE" else "model.tar.gz")
        )

    @classmethod
    def from_request(cls, request: Mapping[str, Any], scope: Scope) -> JobSpec:
        """Read a CreateTrainingJob request that the validator has accepted."""
        algorithm = request.get("AlgorithmSpecification", {})
        output = request["OutputDataConfig"]
        checkpoints = request.get("CheckpointConfig")
        stopping = request.get("StoppingCondition", {})
        spot = bool(request.get("EnableManagedSpotTraining", False))
        return cls(
            scope=scope,
            name=request["TrainingJobName"],
            role_arn=request["RoleArn"],
            image=algorithm.get("TrainingImage"),
            algorithm_name=algorithm.get("AlgorithmName"),
            entrypoint=_tuple_or_none(algorithm.get("ContainerEntrypoint")),
            arguments=_tuple_or_none(algorithm.get("ContainerArguments")),
            hyperparameters=dict(request.get("HyperParameters", {})),
            environment=dict(request.get("Environment", {})),
            channels=tuple(
                ChannelSpec.from_request(channel, algorithm.get("TrainingInputMode", "File"))
                for channel in request.get("InputDataConfig", ())
            ),
            output_path=output["S3OutputPath"],
            output_compression=output.get("CompressionType", "GZIP"),
            groups=_groups(request["ResourceConfig"]),
            max_runtime=stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME),
            network_isolation=bool(request.get("EnableNetworkIsolation", False)),
            checkpoints=Checkpoints(
                checkpoints["S3Uri"], checkpoints.get("LocalPath", DEFAULT_CHECKPOINT_PATH)
            )
            if checkpoints
            else None,
            request=request,
            spot=spot,
            max_wait=stopping.get("MaxWaitTimeInSeconds") if spot else None,
            max_pending=stopping.get("MaxPendingTimeInSeconds"),
            retries=request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0),
        )


def _groups(resources: Mapping[str, Any]) -> tuple[InstanceGroup, ...]:
    if groups := resources.get("InstanceGroups"):
        return tuple(
            InstanceGroup(g["InstanceGroupName"], g["InstanceType"], g["InstanceCount"])
            for g in groups
        )
    return (
        InstanceGroup(
            HOMOGENEOUS_GROUP, resources["InstanceType"], resources.get("InstanceCount", 1)
        ),
    )


def _tuple_or_none(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)
