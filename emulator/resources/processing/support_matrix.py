"""What becomes of each member of CreateProcessingJob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.resources.support_matrix import SupportMatrix, acts, echoes, refuses, told

_INPUT = "ProcessingInputs[]"
_OUTPUT = "ProcessingOutputConfig.Outputs[]"
_CLUSTER = "ProcessingResources.ClusterConfig"

MATRIX = SupportMatrix(
    (
        acts("ProcessingJobName", "unique in an account and region; in ARNs, paths and logs"),
        acts(_INPUT, ""),
        acts(f"{_INPUT}.InputName", "unique in a job"),
        acts(f"{_INPUT}.AppManaged", "nothing is downloaded: the application takes care of it"),
        acts(f"{_INPUT}.S3Input", ""),
        acts(f"{_INPUT}.S3Input.LocalPath", "below /opt/ml/processing/"),
        acts(f"{_INPUT}.S3Input.S3InputMode", "File; Pipe: named pipes `<LocalPath>_0`, `_1`, ..."),
        acts(f"{_INPUT}.S3Input.S3CompressionType", "Gzip is undone in Pipe mode"),
        refuses(f"{_INPUT}.DatasetDefinition", "there is no Athena and no Redshift"),
        acts("ProcessingOutputConfig", ""),
        acts(_OUTPUT, ""),
        acts(f"{_OUTPUT}.OutputName", "unique in a job"),
        acts(f"{_OUTPUT}.S3Output", ""),
        acts(f"{_OUTPUT}.S3Output.LocalPath", "below /opt/ml/processing/; made before the start"),
        acts(f"{_OUTPUT}.S3Output.S3UploadMode", "EndOfJob and Continuous"),
        refuses(f"{_OUTPUT}.FeatureStoreOutput", "there is no feature store"),
        acts(f"{_OUTPUT}.AppManaged", "nothing is uploaded: the application takes care of it"),
        echoes("ProcessingOutputConfig.KmsKeyId", "nothing is encrypted on this machine"),
        acts("ProcessingResources", ""),
        acts(_CLUSTER, ""),
        acts(f"{_CLUSTER}.InstanceCount", "a container or a sandbox each"),
        acts(f"{_CLUSTER}.InstanceType", "its GPUs are leased from this machine's"),
        echoes(f"{_CLUSTER}.VolumeSizeInGB", "disks are not limited", quiet=True),
        echoes(f"{_CLUSTER}.VolumeKmsKeyId", "nothing is encrypted on this machine"),
        refuses(f"{_CLUSTER}.InstancePreferences[]", "name the instance type instead"),
        refuses(f"{_CLUSTER}.SelectedInstanceType", "read-only"),
        refuses(f"{_CLUSTER}.SelectedInstanceCount", "read-only"),
        acts("StoppingCondition", ""),
        acts("StoppingCondition.MaxRuntimeInSeconds", "the job is Stopped then"),
        acts("AppSpecification", ""),
        acts(
            "AppSpecification.ImageUri",
            "must exist (EMULATOR_IMAGES); run by docker; by process, your environment",
        ),
        acts(
            "AppSpecification.ContainerEntrypoint[]",
            "started instead of the image's own; the process runtime needs one",
        ),
        acts("AppSpecification.ContainerArguments[]", "handed to what is started"),
        acts("Environment", "in the environment of every instance"),
        acts("NetworkConfig", ""),
        echoes(
            "NetworkConfig.EnableInterContainerTrafficEncryption",
            "traffic never leaves this machine",
            quiet=True,
        ),
        acts("NetworkConfig.EnableNetworkIsolation", "instances reach each other, nothing else"),
        echoes("NetworkConfig.VpcConfig", "jobs have a network of their own on this machine"),
        acts("RoleArn", "must exist once the setting `roles` names some"),
        acts("Tags[]", "ListTags, AddTags, DeleteTags"),
        echoes("ExperimentConfig", "there are no experiments"),
    )
)


def unacted(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Lines for the job's log: one that names what this request has in vain, or none."""
    return told(MATRIX.in_vain(request))
