"""What the platform writes into /opt/ml/input/config, by path, as text.

Names, member order and the compact form without a trailing newline were seen from the
service: a one-instance resourceconfig.json of ml.g4dn.12xlarge has 280 bytes there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from emulator.model.workload import ChannelSpec, Host, WorkloadSpec

CONFIG = "/opt/ml/input/config"
DATA = "/opt/ml/input/data"
DEBUG_HOOK_PATH = "/opt/ml/output/tensors"
TENSORBOARD_PATH = "/opt/ml/output/tensorboard"
"""Defaults of DebugHookConfig.LocalPath and TensorBoardOutputConfig.LocalPath (API reference)."""

_ENUM_MEMBERS = frozenset(
    {
        "CompressionType",
        "InputMode",
        "RecordWrapperType",
        "S3DataDistributionType",
        "S3DataType",
        "TrainingInputMode",
    }
)


def config_files(spec: WorkloadSpec, host: Host, interface: str) -> Mapping[str, str]:
    """Everything below /opt/ml/input/config of one instance."""
    request = spec.request
    metrics = request.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
    files: dict[str, Any] = {
        "hyperparameters.json": request.get("HyperParameters", {}),
        "inputdataconfig.json": {
            channel.name: _input_data(channel) for channel in spec.channels_of(host)
        },
        "resourceconfig.json": _resources(spec, host, interface),
        "init-config.json": _init_config(spec, host),
        "metric-definition-regex.json": metrics,
        "upstreamoutputdataconfig.json": [],
        "trainingjobconfig.json": _training_job(spec),
    }
    if "CheckpointConfig" in request:
        files["checkpointconfig.json"] = {"LocalPath": _checkpoints(request)["LocalPath"]}
    if "DebugHookConfig" in request:
        files["debughookconfig.json"] = {"LocalPath": DEBUG_HOOK_PATH, **request["DebugHookConfig"]}
    if "ProfilerConfig" in request:
        files["profilerconfig.json"] = request["ProfilerConfig"]
    if "TensorBoardOutputConfig" in request:
        files["tensorboardoutputconfig.json"] = _tensorboard(request["TensorBoardOutputConfig"])
    return {f"{CONFIG}/{name}": _compact(content) for name, content in files.items()}


def _checkpoints(request: Mapping[str, Any]) -> dict[str, Any]:
    """CheckpointConfig with its default path (API reference)."""
    return {"LocalPath": "/opt/ml/checkpoints", **request["CheckpointConfig"]}


def _compact(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _input_data(channel: ChannelSpec) -> dict[str, str]:
    content_type = {"ContentType": channel.content_type} if channel.content_type else {}
    return {
        **content_type,
        "TrainingInputMode": channel.input_mode,
        "S3DistributionType": channel.distribution,
        "RecordWrapperType": channel.record_wrapper,
    }


def _resources(spec: WorkloadSpec, host: Host, interface: str) -> dict[str, Any]:
    # The launcher takes the first host of its group as master, so that every instance
    # must see one and the same order; spec.hosts is in the order of their numbers.
    return {
        "current_host": host.name,
        "current_instance_type": host.instance_type,
        "current_group_name": host.group,
        "hosts": [peer.name for peer in spec.hosts],
        "instance_groups": [
            {
                "instance_group_name": group.name,
                "instance_type": group.instance_type,
                "hosts": [peer.name for peer in spec.hosts if peer.group == group.name],
            }
            for group in spec.groups
        ],
        "network_interface_name": interface,
    }


def _init_config(spec: WorkloadSpec, host: Host) -> dict[str, Any]:
    names = [peer.name for peer in spec.hosts]
    job_mode = spec.request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File")
    return {
        "inputMode": _upper_snake(job_mode),
        "channels": {channel.name: _init_channel(channel) for channel in spec.channels_of(host)},
        "checkpointChannel": _checkpoint_channel(spec),
        "hostConfig": {"clusterSize": len(names), "hostNumber": names.index(host.name) + 1},
        "enableAdditionalPlatformLoggingForCustomer": False,
        "jobRunInfo": {"jobRunNumber": 1},
    }


def _init_channel(channel: ChannelSpec) -> dict[str, Any]:
    s3 = channel.s3
    file_system = channel.source.get("FileSystemDataSource")
    return {
        "s3DataSource": s3
        and {
            "s3DataType": _upper_snake(s3["S3DataType"]),
            "s3Uri": s3["S3Uri"],
            "s3DataDistributionType": _upper_snake(channel.distribution),
            "attributeNames": s3.get("AttributeNames"),
        },
        "fileSystemDataSource": file_system
        and {name[0].lower() + name[1:]: value for name, value in file_system.items()},
        "compressionType": _upper_snake(channel.compression),
        "recordWrapper": _upper_snake(channel.record_wrapper),
        "shuffleConfig": None if channel.shuffle_seed is None else {"seed": channel.shuffle_seed},
        "inputMode": _upper_snake(channel.input_mode),
        "sharded": channel.distribution == "ShardedByS3Key",
    }


def _checkpoint_channel(spec: WorkloadSpec) -> dict[str, Any] | None:
    if "CheckpointConfig" not in spec.request:
        return None
    config = _checkpoints(spec.request)
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": config["S3Uri"]}}
    channel = ChannelSpec("checkpoints", "File", source, config["LocalPath"])
    return {
        "name": "checkpoints",
        "channel": _init_channel(channel),
        "outputPath": config["LocalPath"],
        "allowEmpty": True,
    }


def _training_job(spec: WorkloadSpec) -> dict[str, Any]:
    """The request again, with the service's own spelling of enums and with defaults."""
    job: dict[str, Any] = _with_snake_enums(spec.request)
    if "CheckpointConfig" in job:
        path = _checkpoints(spec.request)["LocalPath"]
        job["CheckpointConfig"] = {**job["CheckpointConfig"], "LocalPath": path}
    if "DebugHookConfig" in job:
        job["DebugHookConfig"] = {"LocalPath": DEBUG_HOOK_PATH, **job["DebugHookConfig"]}
    if "TensorBoardOutputConfig" in job:
        job["TensorBoardOutputConfig"] = _tensorboard(job["TensorBoardOutputConfig"])
    return {**job, "Tags": job.get("Tags", []), "BaseTags": [], "TrainingJobArn": spec.arn}


def _tensorboard(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "S3OutputPath": config["S3OutputPath"],
        "LocalPath": config.get("LocalPath", TENSORBOARD_PATH),
    }


def _with_snake_enums(value: Any, member: str = "") -> Any:
    if isinstance(value, Mapping):
        # Keys of these two are the user's, whatever they are called.
        free = member in ("HyperParameters", "Environment")
        return {
            name: inner if free else _with_snake_enums(inner, name) for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_snake_enums(inner) for inner in value]
    return _upper_snake(value) if member in _ENUM_MEMBERS else value


def _upper_snake(name: str) -> str:
    """ShardedByS3Key → SHARDED_BY_S3_KEY"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
