"""What becomes of each member of CreateTrainingJob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.resources.support_matrix import (
    Member,
    SupportMatrix,
    acts,
    echoes,
    refuses,
    told,
)

_SOURCE = "InputDataConfig[].DataSource"
_ONE_MACHINE = "instances share this machine"
_KEEP_ALIVE = "ResourceConfig.KeepAlivePeriodInSeconds"
_NO_DEBUGGER = "no SageMaker Debugger runs"

TABLE: tuple[Member, ...] = (
    acts("TrainingJobName", "unique in an account and region; in ARNs, paths and log streams"),
    acts("HyperParameters", "written to hyperparameters.json"),
    acts("AlgorithmSpecification", ""),
    acts(
        "AlgorithmSpecification.TrainingImage",
        "must exist (EMULATOR_IMAGES); run by docker; by process, your environment",
    ),
    echoes("AlgorithmSpecification.AlgorithmName", "there are no algorithms of the marketplace"),
    acts("AlgorithmSpecification.TrainingInputMode", "File, Pipe and FastFile"),
    acts("AlgorithmSpecification.MetricDefinitions[]", "read from the log as it streams"),
    echoes(
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
        "metrics always go to CloudWatch",
        quiet=True,
    ),
    acts("AlgorithmSpecification.ContainerEntrypoint[]", "started instead of the image's own"),
    acts("AlgorithmSpecification.ContainerArguments[]", "handed to what is started"),
    echoes(
        "AlgorithmSpecification.TrainingImageConfig",
        "images are pulled as the container engine is configured",
    ),
    acts("RoleArn", "must exist once the setting `roles` names some"),
    acts("InputDataConfig[]", ""),
    acts("InputDataConfig[].ChannelName", "the directory below /opt/ml/input/data"),
    acts(f"{_SOURCE}", ""),
    acts(f"{_SOURCE}.S3DataSource", ""),
    acts(f"{_SOURCE}.S3DataSource.S3DataType", "but Converse, which is refused"),
    acts(f"{_SOURCE}.S3DataSource.AttributeNames[]", "of augmented manifests"),
    acts(f"{_SOURCE}.S3DataSource.InstanceGroupNames[]", "only these groups get the channel"),
    echoes(f"{_SOURCE}.S3DataSource.ModelAccessConfig", "no EULA is asked for", quiet=True),
    echoes(f"{_SOURCE}.S3DataSource.HubAccessConfig", "there is no model hub"),
    acts(f"{_SOURCE}.FileSystemDataSource", "a directory of this machine stands for it"),
    refuses(f"{_SOURCE}.DatasetSource", "there is no dataset hub"),
    acts("InputDataConfig[].ContentType", "written to inputdataconfig.json"),
    acts("InputDataConfig[].CompressionType", "undone in Pipe mode"),
    acts("InputDataConfig[].RecordWrapperType", "done in Pipe mode"),
    acts("InputDataConfig[].InputMode", "wins over the job's"),
    acts("InputDataConfig[].ShuffleConfig", "at each epoch in Pipe mode"),
    acts("OutputDataConfig", ""),
    echoes("OutputDataConfig.KmsKeyId", "nothing is encrypted on this machine"),
    acts("OutputDataConfig.S3OutputPath", "model.tar.gz and output.tar.gz go below it"),
    acts("OutputDataConfig.CompressionType", "NONE uploads the files one by one"),
    acts("ResourceConfig", ""),
    acts("ResourceConfig.InstanceType", "its GPUs are leased from this machine's"),
    acts("ResourceConfig.InstanceCount", "a container or a sandbox each"),
    echoes("ResourceConfig.VolumeSizeInGB", "disks are not limited", quiet=True),
    echoes("ResourceConfig.VolumeKmsKeyId", "nothing is encrypted on this machine"),
    acts(_KEEP_ALIVE, "a warm pool; spot jobs and instance groups have none"),
    acts("ResourceConfig.InstanceGroups[]", "heterogeneous clusters"),
    echoes("ResourceConfig.TrainingPlanArn", "capacity is what this machine has"),
    echoes("ResourceConfig.InstancePlacementConfig", _ONE_MACHINE),
    refuses("ResourceConfig.InstancePreferences[]", "name the instance type instead"),
    refuses("ResourceConfig.SelectedInstanceType", "read-only"),
    refuses("ResourceConfig.SelectedInstanceCount", "read-only"),
    echoes("VpcConfig", "jobs have a network of their own on this machine"),
    acts("StoppingCondition", ""),
    acts("StoppingCondition.MaxRuntimeInSeconds", "Stopped / MaxRuntimeExceeded"),
    acts("StoppingCondition.MaxWaitTimeInSeconds", "of spot jobs"),
    acts("StoppingCondition.MaxPendingTimeInSeconds", "while a job waits for GPUs"),
    acts("Tags[]", "ListTags, AddTags, DeleteTags, Search"),
    acts("EnableNetworkIsolation", "instances reach each other and nothing else"),
    echoes("EnableInterContainerTrafficEncryption", "traffic never leaves this machine", True),
    acts("EnableManagedSpotTraining", "interrupted on request or by a setting"),
    acts("CheckpointConfig", "kept in step with S3 while the job runs"),
    echoes("DebugHookConfig", _NO_DEBUGGER),
    acts("DebugHookConfig.LocalPath", "goes to S3 while the job runs"),
    acts("DebugHookConfig.S3OutputPath", "gets what the script writes itself"),
    echoes("DebugRuleConfigurations[]", _NO_DEBUGGER),
    acts("TensorBoardOutputConfig", "kept in step with S3 while the job runs"),
    echoes("ExperimentConfig", "there are no experiments"),
    echoes("ProfilerConfig", "no profiler runs"),
    acts("ProfilerConfig.S3OutputPath", "gets what the script writes itself"),
    echoes("ProfilerRuleConfigurations[]", "no profiler runs"),
    acts("Environment", "in the environment of every instance"),
    acts("RetryStrategy", "after an InternalServerError"),
    echoes("RemoteDebugConfig", "there is no Systems Manager: use docker exec"),
    echoes("InfraCheckConfig", "this machine's hardware is not tested"),
    echoes("SessionChainingConfig", "there are no session tags"),
    refuses("ServerlessJobConfig", "only AWS has the models it customizes"),
    echoes("MlflowConfig", "set MLFLOW_TRACKING_URI in Environment"),
    echoes("ModelPackageConfig", "there is no model registry"),
)

MATRIX = SupportMatrix(TABLE)


def unacted(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Lines for the job's log: one that names what this request has in vain, or none."""
    named = MATRIX.in_vain(request)
    if reason := _why_no_pool(request):
        named.append(f"{_KEEP_ALIVE} ({reason})")
    return told(named)


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
