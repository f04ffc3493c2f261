"""A job as the API shows it: pure, from what was asked for and what has happened since.

Defaults and the members that are always there follow answers seen from the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from emulator.model.lifecycle import Transition
from emulator.model.record import Job
from emulator.model.warm_pool import WarmPool
from emulator.resources.training.billing import billable_seconds, training_seconds
from emulator.resources.training.words import DEFAULT_MAX_RUNTIME, secondary_status
from emulator.telemetry.metrics.statistics import Sample

_SWITCHES = (
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
)
# Images of these repositories report metrics unless told not to (API reference).
_FRAMEWORK_IMAGES = (
    "pytorch-training",
    "tensorflow-training",
    "mxnet-training",
    "amzn2023-sagemaker",
)


def describe(job: Job, metrics: Mapping[str, Sample] = MappingProxyType({})) -> dict[str, Any]:
    """The answer of DescribeTrainingJob.

    `metrics` has the last value of each of the job's metrics, as far as it has any.
    Members of the request that the emulator does not act on are echoed as they came; the
    ones that Describe does not have (Tags) fall out when the answer is written.
    """
    request = job.spec.request
    return {
        **request,
        **{name: show(request.get(name)) for name, show in _FILLED.items()},
        **_identity(job),
        # Absent while a job runs and after a failure (seen), although the model requires it.
        "ModelArtifacts": None if job.artifacts is None else {"S3ModelArtifacts": job.artifacts},
        "FailureReason": job.life.failure_reason,
        "SecondaryStatusTransitions": [_transition(item) for item in job.life.transitions],
        "FinalMetricDataList": [_metric(*item) for item in metrics.items()] or None,
        "WarmPoolStatus": _warm_pool(job.warm_pool),
        **_times(job),
        **_profiling(request),
    }


def shown_member(name: str, asked: Any) -> Any:
    """What Describe shows of one member of the request, for those of REQUEST_MEMBERS."""
    show = _FILLED.get(name)
    return show(asked) if show else asked


def summarize(job: Job) -> dict[str, Any]:
    """One entry of ListTrainingJobs."""
    return {
        **_identity(job),
        "CreationTime": job.life.created,
        "LastModifiedTime": job.life.modified,
        "TrainingEndTime": job.life.ended,
        "TrainingPlanArn": job.spec.request["ResourceConfig"].get("TrainingPlanArn"),
        "WarmPoolStatus": _warm_pool(job.warm_pool),
    }


def _identity(job: Job) -> dict[str, Any]:
    return {
        "TrainingJobName": job.spec.name,
        "TrainingJobArn": job.spec.arn,
        "TrainingJobStatus": job.life.status.value,
        "SecondaryStatus": secondary_status(job.life.phase),
    }


def _algorithm(algorithm: Mapping[str, Any] | None) -> dict[str, Any]:
    algorithm = algorithm or {}
    repository = algorithm.get("TrainingImage", "").rpartition("/")[2]
    # True where metrics are asked for or the image is one of AWS's framework images; a
    # first-party algorithm without metrics was seen with false.
    by_default = bool(algorithm.get("MetricDefinitions")) or any(
        name in repository for name in _FRAMEWORK_IMAGES
    )
    return {"EnableSageMakerMetricsTimeSeries": by_default, **algorithm}


def _channels(channels: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    if channels is None:
        return None
    return [
        {
            "CompressionType": "None",
            "RecordWrapperType": "None",
            **channel,
            "DataSource": _source(channel["DataSource"]),
        }
        for channel in channels
    ]


def _source(source: Mapping[str, Any]) -> Mapping[str, Any]:
    if "S3DataSource" not in source:
        return source
    filled = {"S3DataDistributionType": "FullyReplicated", **source["S3DataSource"]}
    return {**source, "S3DataSource": filled}


def _resources(resources: Mapping[str, Any] | None) -> Mapping[str, Any]:
    resources = resources or {}
    # Clients count the log streams to wait for by InstanceCount.
    return resources if resources.get("InstanceGroups") else {"InstanceCount": 1, **resources}


def _transition(entry: Transition) -> dict[str, Any]:
    return {
        "Status": secondary_status(entry.status),
        "StartTime": entry.started,
        "EndTime": entry.ended,
        "StatusMessage": entry.message,
    }


def _metric(name: str, sample: Sample) -> dict[str, Any]:
    # Whole seconds (seen).
    return {"MetricName": name, "Value": sample.maximum, "Timestamp": int(sample.at)}


def _times(job: Job) -> dict[str, Any]:
    life = job.life
    return {
        "CreationTime": life.created,
        "LastModifiedTime": life.modified,
        "TrainingStartTime": life.started,
        "TrainingEndTime": life.ended,
        "TrainingTimeInSeconds": training_seconds(job),
        "BillableTimeInSeconds": billable_seconds(job),
    }


def _warm_pool(pool: WarmPool | None) -> dict[str, Any] | None:
    if pool is None:
        return None
    return {
        "Status": pool.status.value,
        "ResourceRetainedBillableTimeInSeconds": pool.retained_seconds,
        "ReusedByJob": pool.reused_by,
    }


def _profiling(request: Mapping[str, Any]) -> dict[str, Any]:
    profiler = request.get("ProfilerConfig")
    debugger = request.get("DebugHookConfig")
    shown: dict[str, Any] = {"ProfilingStatus": "Disabled"}
    if profiler is not None:
        filled = {"ProfilingIntervalInMilliseconds": 500, "DisableProfiler": False, **profiler}
        enabled = not filled["DisableProfiler"]
        shown = {
            "ProfilerConfig": filled if enabled else dict(profiler),
            "ProfilingStatus": "Enabled" if enabled else "Disabled",
        }
    if debugger is not None:
        shown["DebugHookConfig"] = {"CollectionConfigurations": [], **debugger}
    return shown


_FILLED: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_SWITCHES, bool),
    "AlgorithmSpecification": _algorithm,
    "InputDataConfig": _channels,
    "OutputDataConfig": lambda asked: {"KmsKeyId": "", "CompressionType": "GZIP", **(asked or {})},
    "ResourceConfig": _resources,
    "StoppingCondition": lambda asked: {
        "MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME,
        **(asked or {}),
    },
}
"""Members of the request of which Describe shows more than was asked for."""
REQUEST_MEMBERS = frozenset(
    {
        *_FILLED,
        "CheckpointConfig",
        "Environment",
        "ExperimentConfig",
        "HyperParameters",
        "RetryStrategy",
        "RoleArn",
        "TensorBoardOutputConfig",
        "VpcConfig",
    }
)
"""Members that Describe shows of the request alone, each for itself."""
