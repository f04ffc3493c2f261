"""A CreateProcessingJob request as the workload it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.model.scope import Scope
from emulator.model.workload import (
    ChannelSpec,
    InstanceGroup,
    Kind,
    Output,
    S3Uri,
    SavedDirectory,
    WorkloadId,
    WorkloadSpec,
)
from emulator.resources.processing import paths
from emulator.resources.processing.config_files import config_files
from emulator.resources.processing.support_matrix import unacted
from emulator.resources.processing.words import (
    DEFAULT_MAX_RUNTIME,
    WORDS,
    not_found,
    phase_name,
)

_GROUP = "homogeneousCluster"
"""All instances are in one group, as in training jobs without groups."""


def job_id(scope: Scope, name: str) -> WorkloadId:
    """The processing job of that name."""
    return WorkloadId(PROCESSING.name, scope, name)


def processing_job(request: Mapping[str, Any], scope: Scope) -> WorkloadSpec:
    """Read a CreateProcessingJob request that the validator and the rules have accepted.

    Raises ValueError for an address that is well formed but names no bucket.
    """
    application = request["AppSpecification"]
    cluster = request["ProcessingResources"]["ClusterConfig"]
    entrypoint = application.get("ContainerEntrypoint")
    channels = _channels(request)
    at_end, continuous = _results(request)
    results = [*(each.path for each in at_end), *(each.path for each in continuous)]
    # A pipe has no directory: it lies beside the place of one.
    files = [each.path for each in channels if each.input_mode == "File"]
    places = [each.path for each in channels]
    return WorkloadSpec(
        kind=PROCESSING,
        scope=scope,
        name=request["ProcessingJobName"],
        role_arn=request["RoleArn"],
        image=application["ImageUri"],
        entrypoint=None if entrypoint is None else tuple(entrypoint),
        arguments=tuple(application.get("ContainerArguments", ())),
        environment=dict(request.get("Environment", {})),
        platform={},
        groups=(InstanceGroup(_GROUP, cluster["InstanceType"], cluster.get("InstanceCount", 1)),),
        volumes=paths.volumes(files, results),
        # An output's directory is there when the entry point is started (API reference).
        directories=(*results, *(place.rpartition("/")[0] for place in places)),
        channels=channels,
        outputs=at_end,
        output_uris=tuple(each["S3Output"]["S3Uri"] for each in paths.outputs(request)),
        saved=continuous,
        failure_file=paths.FAILURE,
        message_file=paths.MESSAGE,
        needs_image=entrypoint is None,
        max_runtime=request.get("StoppingCondition", {}).get(
            "MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME
        ),
        network_isolation=bool(request.get("NetworkConfig", {}).get("EnableNetworkIsolation")),
        request=request,
        tags={tag["Key"]: tag["Value"] for tag in request.get("Tags", ())},
    )


def _channels(request: Mapping[str, Any]) -> tuple[ChannelSpec, ...]:
    return tuple(
        _channel(paths.file_name(each["InputName"], number), each["S3Input"])
        for number, each in enumerate(paths.inputs(request), start=1)
    )


def _channel(name: str, source: Mapping[str, Any]) -> ChannelSpec:
    distribution = source.get("S3DataDistributionType", "FullyReplicated")
    return ChannelSpec(
        name=name,
        input_mode=source.get("S3InputMode", "File"),
        source={
            "S3DataSource": {
                "S3DataType": source["S3DataType"],
                "S3Uri": source["S3Uri"],
                "S3DataDistributionType": distribution,
            }
        },
        path=paths.plain(source["LocalPath"]),
        distribution=distribution,
        compression=source.get("S3CompressionType", "None"),
        manifest=False,
    )


def _results(
    request: Mapping[str, Any],
) -> tuple[tuple[Output, ...], tuple[SavedDirectory, ...]]:
    """What is uploaded at the end of the job, and what while it runs."""
    at_end, continuous = [], []
    for number, each in enumerate(paths.outputs(request), start=1):
        name, result = paths.file_name(each["OutputName"], number), each["S3Output"]
        path, target = paths.plain(result["LocalPath"]), S3Uri.parse(result["S3Uri"])
        if result["S3UploadMode"] == "Continuous":
            continuous.append(SavedDirectory(name, path, target))
        else:
            at_end.append(Output(name, path, target))
    return tuple(at_end), tuple(continuous)


PROCESSING = Kind(
    name="processing-job",
    noun="processing job",
    outputs="Outputs",
    log_group="/aws/sagemaker/ProcessingJobs",
    dimension="ProcessingJobName",
    words=WORDS,
    not_found=not_found,
    read=processing_job,
    config_files=config_files,
    notes=lambda spec: unacted(spec.request),
    phase_name=phase_name,
    directory_prefix="processing-job_",
)
