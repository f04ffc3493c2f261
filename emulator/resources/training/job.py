"""A CreateTrainingJob request as the workload it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.model.scope import Scope
from emulator.model.workload import (
    ChannelSpec,
    InstanceGroup,
    Kind,
    Output,
    PoolKey,
    S3Uri,
    WorkloadId,
    WorkloadSpec,
)
from emulator.resources.training.config_files import CONFIG, DATA, config_files
from emulator.resources.training.launcher_ports import launcher_ports
from emulator.resources.training.saved import checkpoint_path, saved_directories, volumes
from emulator.resources.training.support_matrix import unacted
from emulator.resources.training.words import (
    DEFAULT_MAX_RUNTIME,
    NOT_FOUND,
    WORDS,
    secondary_status,
)

HOMOGENEOUS_GROUP = "homogeneousCluster"
"""Name of the one instance group of a job that has no InstanceGroups, as seen from the service."""

_OUTPUT_DATA = "/opt/ml/output/data"
_POOL_RESOURCES = ("InstanceType", "VolumeSizeInGB", "VolumeKmsKeyId")
_POOL_SWITCHES = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")


def job_id(scope: Scope, name: str) -> WorkloadId:
    """The training job of that name."""
    return WorkloadId(TRAINING.name, scope, name)


def training_job(request: Mapping[str, Any], scope: Scope) -> WorkloadSpec:
    """Read a CreateTrainingJob request that the validator has accepted.

    Raises ValueError for an address that is well formed but names no bucket.
    """
    name = request["TrainingJobName"]
    algorithm = request.get("AlgorithmSpecification", {})
    stopping = request.get("StoppingCondition", {})
    spot = bool(request.get("EnableManagedSpotTraining", False))
    groups = _groups(request["ResourceConfig"])
    channels = tuple(
        channel_spec(channel, algorithm.get("TrainingInputMode", "File"))
        for channel in request.get("InputDataConfig", ())
    )
    output = S3Uri.parse(request["OutputDataConfig"]["S3OutputPath"]).join(name, "output")
    archive = request["OutputDataConfig"].get("CompressionType", "GZIP") != "NONE"
    suffix = ".tar.gz" if archive else ""
    model = output.join(f"model{suffix}")
    return WorkloadSpec(
        kind=TRAINING,
        scope=scope,
        name=name,
        role_arn=request["RoleArn"],
        image=algorithm.get("TrainingImage"),
        entrypoint=_tuple_or_none(algorithm.get("ContainerEntrypoint")),
        arguments=_arguments(algorithm),
        environment=dict(request.get("Environment", {})),
        platform={
            "TRAINING_JOB_NAME": name,
            "TRAINING_JOB_ARN": job_id(scope, name).arn,
            "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
        },
        groups=groups,
        volumes=volumes(request),
        # /opt/ml/output/intermediate is left out: the toolkit uploads it only when it made the
        # directory itself.
        directories=(
            CONFIG,
            DATA,
            "/opt/ml/model",
            _OUTPUT_DATA,
            checkpoint_path(request),
        ),
        channels=channels,
        outputs=(
            Output("model", "/opt/ml/model", model, archive),
            Output("output", _OUTPUT_DATA, output.join(f"output{suffix}"), archive),
        ),
        output_uris=(request["OutputDataConfig"]["S3OutputPath"],),
        saved=saved_directories(request),
        failure_file="/opt/ml/output/failure",
        max_runtime=stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME),
        network_isolation=bool(request.get("EnableNetworkIsolation", False)),
        request=request,
        tags={tag["Key"]: tag["Value"] for tag in request.get("Tags", ())},
        artifacts=str(model),
        metric_definitions=tuple(
            (definition["Name"], definition["Regex"])
            for definition in algorithm.get("MetricDefinitions", ())
        ),
        ports=launcher_ports(request, groups),
        spot=spot,
        max_wait=stopping.get("MaxWaitTimeInSeconds") if spot else None,
        max_pending=_max_pending(stopping, groups),
        retries=request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0),
        keep_alive=keep_alive(request),
        pool_key=_pool_key(request, scope),
    )


def channel_spec(channel: Mapping[str, Any], job_mode: str) -> ChannelSpec:
    """One entry of InputDataConfig; `job_mode` is TrainingInputMode."""
    source = channel["DataSource"]
    return ChannelSpec(
        name=channel["ChannelName"],
        input_mode=channel.get("InputMode", job_mode),
        source=source,
        path=f"{DATA}/{channel['ChannelName']}",
        distribution=source.get("S3DataSource", {}).get(
            "S3DataDistributionType", "FullyReplicated"
        ),
        compression=channel.get("CompressionType", "None"),
        record_wrapper=channel.get("RecordWrapperType", "None"),
        content_type=channel.get("ContentType"),
        shuffle_seed=channel.get("ShuffleConfig", {}).get("Seed"),
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


def _arguments(algorithm: Mapping[str, Any]) -> tuple[str, ...]:
    """`train`, unless the request replaces it (AlgorithmSpecification, API reference)."""
    if (arguments := algorithm.get("ContainerArguments")) is not None:
        return tuple(arguments)
    return () if algorithm.get("ContainerEntrypoint") is not None else ("train",)


def _tuple_or_none(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)


_ACCELERATED = ("ml.p", "ml.g", "ml.trn")
"""The families that MaxPendingTimeInSeconds is about (API reference)."""


def _max_pending(stopping: Mapping[str, Any], groups: tuple[InstanceGroup, ...]) -> int | None:
    """MaxPendingTimeInSeconds, where it counts for the job's instances."""
    accelerated = any(group.instance_type.startswith(_ACCELERATED) for group in groups)
    limit: int | None = stopping.get("MaxPendingTimeInSeconds")
    return limit if accelerated else None


def keep_alive(request: Mapping[str, Any]) -> int:
    """KeepAlivePeriodInSeconds of the request; 0 keeps nothing."""
    if not _can_have_pool(request):
        return 0
    return int(request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0))


def with_keep_alive(spec: WorkloadSpec, seconds: int) -> WorkloadSpec:
    """The job with another KeepAlivePeriodInSeconds."""
    resources = {**spec.request["ResourceConfig"], "KeepAlivePeriodInSeconds": seconds}
    return training_job({**spec.request, "ResourceConfig": resources}, spec.scope)


def _can_have_pool(request: Mapping[str, Any]) -> bool:
    """Not managed spot training, and no heterogeneous clusters (developer guide)."""
    spot = bool(request.get("EnableManagedSpotTraining", False))
    return not spot and not request["ResourceConfig"].get("InstanceGroups")


def _pool_key(request: Mapping[str, Any], scope: Scope) -> PoolKey | None:
    """What a job and a pool must share (developer guide); None where no pool can fit."""
    if not _can_have_pool(request):
        return None
    resources = request["ResourceConfig"]
    vpc = request.get("VpcConfig", {})
    tags = request.get("SessionChainingConfig", {}).get("EnableSessionTagChaining", False)
    return (
        ("account", scope.account),
        ("region", scope.region),
        ("role", request["RoleArn"]),
        ("InstanceCount", resources.get("InstanceCount", 1)),
        *((name, resources.get(name)) for name in _POOL_RESOURCES),
        ("subnets", tuple(sorted(vpc.get("Subnets", ())))),
        ("security groups", tuple(sorted(vpc.get("SecurityGroupIds", ())))),
        *((name, bool(request.get(name, False))) for name in _POOL_SWITCHES),
        ("session tags", bool(tags)),
    )


TRAINING = Kind(
    name="training-job",
    noun="training job",
    outputs="Model and output",
    log_group="/aws/sagemaker/TrainingJobs",
    dimension="TrainingJobName",
    words=WORDS,
    not_found=lambda _: NOT_FOUND,
    read=training_job,
    config_files=config_files,
    notes=lambda spec: unacted(spec.request),
    phase_name=secondary_status,
)
