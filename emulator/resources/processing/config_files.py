"""What the platform writes into /opt/ml/config, by path, as text.

Members, their order and the members that are null follow the developer guide, "How Amazon
SageMaker Processing Configures Your Processing Container".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emulator.model.workload import Host, WorkloadSpec
from emulator.resources.processing.paths import CONFIG
from emulator.resources.processing.words import DEFAULT_MAX_RUNTIME


def config_files(spec: WorkloadSpec, host: Host, interface: str) -> Mapping[str, str]:  # noqa: ARG001
    """Both files of one instance."""
    resources = {"current_host": host.name, "hosts": [peer.name for peer in spec.hosts]}
    return {
        f"{CONFIG}/processingjobconfig.json": _text(_processing_job(spec)),
        f"{CONFIG}/resourceconfig.json": _text(resources),
    }


def with_defaults(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the defaults that are documented for its members."""
    return {
        **request,
        "ProcessingInputs": [_input(each) for each in request.get("ProcessingInputs", ())],
        "ProcessingOutputConfig": _outputs(request.get("ProcessingOutputConfig", {})),
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, **request["ProcessingResources"]["ClusterConfig"]}
        },
        "StoppingCondition": {
            "MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME,
            **request.get("StoppingCondition", {}),
        },
    }


def _processing_job(spec: WorkloadSpec) -> dict[str, Any]:
    request = with_defaults(spec.request)
    application = {"ContainerEntrypoint": None, "ContainerArguments": None}
    cluster = {"VolumeKmsKeyId": None, **request["ProcessingResources"]["ClusterConfig"]}
    return {
        "ProcessingJobArn": spec.arn,
        "ProcessingJobName": spec.name,
        "AppSpecification": {**application, **request["AppSpecification"]},
        "Environment": request.get("Environment", {}),
        "ProcessingInputs": [_with_download_mode(each) for each in request["ProcessingInputs"]],
        "ProcessingOutputConfig": {"KmsKeyId": None, **request["ProcessingOutputConfig"]},
        "ProcessingResources": {"ClusterConfig": cluster},
        **({"NetworkConfig": request["NetworkConfig"]} if "NetworkConfig" in request else {}),
        "RoleArn": request["RoleArn"],
        "StoppingCondition": request["StoppingCondition"],
    }


def _input(asked: Mapping[str, Any]) -> dict[str, Any]:
    filled = {"AppManaged": False, **asked}
    if "S3Input" in asked:
        filled["S3Input"] = {
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
            **asked["S3Input"],
        }
    return filled


def _with_download_mode(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    if "S3Input" not in asked:
        return asked
    return {**asked, "S3Input": {**asked["S3Input"], "S3DownloadMode": "StartOfJob"}}


def _outputs(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **asked,
        "Outputs": [{"AppManaged": False, **each} for each in asked.get("Outputs", ())],
    }


def _text(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
