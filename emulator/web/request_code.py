"""A request as JSON, as a command of the AWS CLI, and as code: pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pprint import pformat
from typing import Any

from emulator.model.workload import Kind

_WORD = re.compile(r"(?<!^)(?=[A-Z])")


def as_json(request: Mapping[str, Any]) -> str:
    """The request, to be read."""
    return json.dumps(request, indent=2, ensure_ascii=False)


def as_command(kind: Kind, request: Mapping[str, Any]) -> str:
    """A command of the AWS CLI that sends the request, in any POSIX shell."""
    command = _WORD.sub("-", operation(kind)).lower()
    return f"aws sagemaker {command} --cli-input-json {shlex.quote(as_json(request))}"


def as_boto3(kind: Kind, request: Mapping[str, Any]) -> str:
    """Python that sends the request with boto3."""
    method = _WORD.sub("_", operation(kind)).lower()
    members = ",\n".join(
        f"    {name}={_indented(pformat(value, sort_dicts=False, width=88))}"
        for name, value in request.items()
    )
    return (
        f'import boto3\n\nsagemaker = boto3.client("sagemaker")\nsagemaker.{method}(\n{members},\n)'
    )


def as_sdk(request: Mapping[str, Any]) -> str:
    """Python for the SageMaker Python SDK (version 2) that trains the same; "" for other kinds."""
    if "TrainingJobName" not in request:
        return ""
    resources, algorithm = request["ResourceConfig"], request.get("AlgorithmSpecification", {})
    stopping, output = request.get("StoppingCondition", {}), request["OutputDataConfig"]
    options: dict[str, Any] = {
        "image_uri": algorithm.get("TrainingImage"),
        "role": request["RoleArn"],
        "instance_count": resources.get("InstanceCount", 1),
        "instance_type": resources.get("InstanceType"),
        "volume_size": resources.get("VolumeSizeInGB"),
        "max_run": stopping.get("MaxRuntimeInSeconds"),
        "max_wait": stopping.get("MaxWaitTimeInSeconds"),
        "use_spot_instances": request.get("EnableManagedSpotTraining") or None,
        "keep_alive_period_in_seconds": resources.get("KeepAlivePeriodInSeconds"),
        "output_path": output["S3OutputPath"],
        "hyperparameters": dict(request.get("HyperParameters", {})) or None,
        "environment": dict(request.get("Environment", {})) or None,
        "metric_definitions": algorithm.get("MetricDefinitions"),
        "checkpoint_s3_uri": request.get("CheckpointConfig", {}).get("S3Uri"),
        "container_entry_point": algorithm.get("ContainerEntrypoint"),
        "container_arguments": algorithm.get("ContainerArguments"),
    }
    lines = "\n".join(
        f"    {name}={_indented(pformat(value, sort_dicts=False, width=88))},"
        for name, value in options.items()
        if value is not None
    )
    channels = {
        channel["ChannelName"]: source["S3Uri"]
        for channel in request.get("InputDataConfig", ())
        if (source := channel["DataSource"].get("S3DataSource"))
    }
    data = f"{_indented(pformat(channels, sort_dicts=False, width=80))}, " if channels else ""
    return (
        "from sagemaker.estimator import Estimator\n\n"
        f"estimator = Estimator(\n{lines}\n)\n"
        f"estimator.fit({data}job_name={request['TrainingJobName']!r})"
    )


def operation(kind: Kind) -> str:
    """CreateTrainingJob, for one."""
    return f"Create{kind.dimension.removesuffix('Name')}"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
