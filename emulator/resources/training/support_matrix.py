"""What becomes of each member of CreateTrainingJob: the one table of it.

A row speaks for its member and for everything below it that has no row of its own.
docs/coverage.md is made from it, and a job's log names the members that it has in vain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Treatment(str, Enum):
    """What the emulator does with a member."""

    ACTS = "acts"
    """It has the effect that it has at AWS."""
    ECHOES = "echoes"
    """It is kept and shown, and has no effect."""
    REFUSES = "refuses"
    """A request with it is answered with an error that names it."""


@dataclass(frozen=True)
class Member:
    """One row; `path` has `[]` after the name of every list."""

    path: str
    treatment: Treatment
    note: str
    quiet: bool = False
    """Nothing is missed when it has no effect, so no log speaks of it."""


def _acts(path: str, note: str) -> Member:
    return Member(path, Treatment.ACTS, note)


def _echoes(path: str, note: str, quiet: bool = False) -> Member:
    return Member(path, Treatment.ECHOES, note, quiet)


def _refuses(path: str, note: str) -> Member:
    return Member(path, Treatment.REFUSES, note)


_SOURCE = "InputDataConfig[].DataSource"
_ONE_MACHINE = "instances share this machine"
_KEEP_ALIVE = "ResourceConfig.KeepAlivePeriodInSeconds"
_NO_DEBUGGER = "no SageMaker Debugger runs"

TABLE: tuple[Member, ...] = (
    _acts("TrainingJobName", "unique in an account and region; in ARNs, paths and log streams"),
    _acts("HyperParameters", "written to hyperparameters.json"),
    _acts("AlgorithmSpecification", ""),
    _acts(
        "AlgorithmSpecification.TrainingImage",
        "must exist (EMULATOR_IMAGES); run by docker; by process, your environment",
    ),
    _echoes("AlgorithmSpecification.AlgorithmName", "there are no algorithms of the marketplace"),
    _acts("AlgorithmSpecification.TrainingInputMode", "File, Pipe and FastFile"),
    _acts("AlgorithmSpecification.MetricDefinitions[]", "read from the log as it streams"),
    _echoes(
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
        "metrics always go to CloudWatch",
        quiet=True,
    ),
    _acts("AlgorithmSpecification.ContainerEntrypoint[]", "started instead of the image's own"),
    _acts("AlgorithmSpecification.ContainerArguments[]", "handed to what is started"),
    _echoes(
        "AlgorithmSpecification.TrainingImageConfig",
        "images are pulled as the container engine is configured",
    ),
    _acts("RoleArn", "must exist once the setting `roles` names some"),
    _acts("InputDataConfig[]", ""),
    _acts("InputDataConfig[].ChannelName", "the directory below /opt/ml/input/data"),
    _acts(f"{_SOURCE}", ""),
    _acts(f"{_SOURCE}.S3DataSource", ""),
    _acts(f"{_SOURCE}.S3DataSource.S3DataType", "but Converse, which is refused"),
    _acts(f"{_SOURCE}.S3DataSource.AttributeNames[]", "of augmented manifests"),
    _acts(f"{_SOURCE}.S3DataSource.InstanceGroupNames[]", "only these groups get the channel"),
    _echoes(f"{_SOURCE}.S3DataSource.ModelAccessConfig", "no EULA is asked for", quiet=True),
    _echoes(f"{_SOURCE}.S3DataSource.HubAccessConfig", "there is no model hub"),
    _acts(f"{_SOURCE}.FileSystemDataSource", "a directory of this machine stands for it"),
    _refuses(f"{_SOURCE}.DatasetSource", "there is no dataset hub"),
    _acts("InputDataConfig[].ContentType", "written to inputdataconfig.json"),
    _acts("InputDataConfig[].CompressionType", "undone in Pipe mode"),
    _acts("InputDataConfig[].RecordWrapperType", "done in Pipe mode"),
    _acts("InputDataConfig[].InputMode", "wins over the job's"),
    _acts("InputDataConfig[].ShuffleConfig", "at each epoch in Pipe mode"),
    _acts("OutputDataConfig", ""),
    _echoes("OutputDataConfig.KmsKeyId", "nothing is encrypted on this machine"),
    _acts("OutputDataConfig.S3OutputPath", "model.tar.gz and output.tar.gz go below it"),
    _acts("OutputDataConfig.CompressionType", "NONE uploads the files one by one"),
    _acts("ResourceConfig", ""),
    _acts("ResourceConfig.InstanceType", "its GPUs are leased from this machine's"),
    _acts("ResourceConfig.InstanceCount", "a container or a sandbox each"),
    _echoes("ResourceConfig.VolumeSizeInGB", "disks are not limited", quiet=True),
    _echoes("ResourceConfig.VolumeKmsKeyId", "nothing is encrypted on this machine"),
    _acts(_KEEP_ALIVE, "a warm pool; spot jobs and instance groups have none"),
    _acts("ResourceConfig.InstanceGroups[]", "heterogeneous clusters"),
    _echoes("ResourceConfig.TrainingPlanArn", "capacity is what this machine has"),
    _echoes("ResourceConfig.InstancePlacementConfig", _ONE_MACHINE),
    _refuses("ResourceConfig.InstancePreferences[]", "name the instance type instead"),
    _refuses("ResourceConfig.SelectedInstanceType", "read-only"),
    _refuses("ResourceConfig.SelectedInstanceCount", "read-only"),
    _echoes("VpcConfig", "jobs have a network of their own on this machine"),
    _acts("StoppingCondition", ""),
    _acts("StoppingCondition.MaxRuntimeInSeconds", "Stopped / MaxRuntimeExceeded"),
    _acts("StoppingCondition.MaxWaitTimeInSeconds", "of spot jobs"),
    _acts("StoppingCondition.MaxPendingTimeInSeconds", "while a job waits for GPUs"),
    _acts("Tags[]", "ListTags, AddTags, DeleteTags, Search"),
    _acts("EnableNetworkIsolation", "instances reach each other and nothing else"),
    _echoes("EnableInterContainerTrafficEncryption", "traffic never leaves this machine", True),
    _acts("EnableManagedSpotTraining", "interrupted on request or by a setting"),
    _acts("CheckpointConfig", "kept in step with S3 while the job runs"),
    _echoes("DebugHookConfig", _NO_DEBUGGER),
    _acts("DebugHookConfig.LocalPath", "goes to S3 while the job runs"),
    _acts("DebugHookConfig.S3OutputPath", "gets what the script writes itself"),
    _echoes("DebugRuleConfigurations[]", _NO_DEBUGGER),
    _acts("TensorBoardOutputConfig", "kept in step with S3 while the job runs"),
    _echoes("ExperimentConfig", "there are no experiments"),
    _echoes("ProfilerConfig", "no profiler runs"),
    _acts("ProfilerConfig.S3OutputPath", "gets what the script writes itself"),
    _echoes("ProfilerRuleConfigurations[]", "no profiler runs"),
    _acts("Environment", "in the environment of every instance"),
    _acts("RetryStrategy", "after an InternalServerError"),
    _echoes("RemoteDebugConfig", "there is no Systems Manager: use docker exec"),
    _echoes("InfraCheckConfig", "this machine's hardware is not tested"),
    _echoes("SessionChainingConfig", "there are no session tags"),
    _refuses("ServerlessJobConfig", "only AWS has the models it customizes"),
    _echoes("MlflowConfig", "set MLFLOW_TRACKING_URI in Environment"),
    _echoes("ModelPackageConfig", "there is no model registry"),
)

_ROWS = {member.path: member for member in TABLE}


def member_at(path: str) -> Member | None:
    """The row that speaks for a path; None if the table has forgotten it."""
    while path:
        if path in _ROWS:
            return _ROWS[path]
        path = path.rpartition(".")[0]
    return None


def unacted(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Lines for the job's log: one that names what this request has in vain, or none."""
    missed = [
        member
        for member in TABLE
        if member.treatment is Treatment.ECHOES
        and not member.quiet
        and any(
            _means_something(_without_rows_below(member.path, value))
            for value in _values(request, member.path.split("."))
        )
    ]
    named = [f"{member.path.replace('[]', '')} ({member.note})" for member in missed]
    if reason := _why_no_pool(request):
        named.append(f"{_KEEP_ALIVE} ({reason})")
    if not named:
        return ()
    return (f"Kept, but without effect in sagemaker-emulator: {', '.join(named)}.",)


def _why_no_pool(request: Mapping[str, Any]) -> str:
    """Why the warm pool that was asked for cannot be ("" if it can, or none was)."""
    resources = request.get("ResourceConfig", {})
    if not resources.get("KeepAlivePeriodInSeconds"):
        return ""
    if request.get("EnableManagedSpotTraining"):  # this and the next: developer guide
        return "warm pools cannot be used with spot instances"
    if resources.get("InstanceGroups"):
        return "warm pools cannot be used with heterogeneous clusters"
    return ""


def _values(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
        return
    name, rest = path[0], path[1:]
    found = value.get(name.removesuffix("[]")) if isinstance(value, Mapping) else None
    for item in found if name.endswith("[]") and isinstance(found, list) else [found]:
        yield from _values(item, rest)


def _without_rows_below(path: str, value: Any) -> Any:
    """What the row speaks for: members with rows of their own are not its affair."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if f"{path}.{name}" not in _ROWS}


def _means_something(value: Any) -> bool:
    """Whether it asks for anything: the SDKs send switches that are off and empty lists."""
    if isinstance(value, Mapping):
        if value.get("DisableProfiler") is True:
            return False
        return any(map(_means_something, value.values()))
    if isinstance(value, list):
        return any(map(_means_something, value))
    return bool(value)
