"""A CreateTransformJob request as what is sent to a model, and the instances that hold it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.model.errors import NotBuilt, ValidationError
from emulator.model.workload import S3Uri

DEFAULT_PAYLOAD_MB = 6
"""MaxPayloadInMB where the request has none (API reference)."""
_MOST_PAYLOAD_MB = 100
_INVOCATION_SECONDS = 600
_RETRIES = 3
"""Both where ModelClientConfig names none (API reference)."""
_STRATEGIES = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class TransformSpec:
    """What is read, how it is cut into requests, and where the answers go."""

    source: S3Uri
    is_manifest: bool
    gzip: bool
    split: str
    """None, Line, RecordIO or TFRecord."""
    multi: bool
    """As many records in a request as `payload` bytes hold; else one."""
    payload: int | None
    """Bytes of a request's body at most; None is any number."""
    content_type: str | None
    accept: str | None
    output: S3Uri
    by_line: bool
    """A line break after each answer."""
    concurrent: int
    """Requests that an instance works on at once."""
    seconds: float
    retries: int


def transform_spec(request: Mapping[str, Any]) -> TransformSpec:
    """Read a request that `check` has accepted; raises ValueError for an address that is none."""
    given, output = request["TransformInput"], request["TransformOutput"]
    source = given["DataSource"]["S3DataSource"]
    client = request.get("ModelClientConfig", {})
    split = given.get("SplitType", "None")
    return TransformSpec(
        source=S3Uri.parse(source["S3Uri"]),
        is_manifest=source["S3DataType"] == "ManifestFile",
        gzip=given.get("CompressionType") == "Gzip",
        split=split,
        multi=split != "None" and request.get("BatchStrategy", "MultiRecord") == "MultiRecord",
        payload=request.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB) * _MEGABYTE or None,
        content_type=given.get("ContentType"),
        accept=output.get("Accept"),
        output=S3Uri.parse(output["S3OutputPath"]),
        by_line=output.get("AssembleWith") == "Line",
        concurrent=request.get("MaxConcurrentTransforms") or 1,
        seconds=float(client.get("InvocationsTimeoutInSeconds", _INVOCATION_SECONDS)),
        retries=client.get("InvocationsMaxRetries", _RETRIES),
    )


def with_parameters(request: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The request with what its container says of members that it does not have.

    MaxConcurrentTransforms 0 leaves the choice to the container (API reference).
    """
    asked = {
        name: value for name, value in request.items() if name != "MaxConcurrentTransforms" or value
    }
    return {**said, **asked}


def check(request: Mapping[str, Any]) -> None:
    """Raise ValidationError or NotBuilt for members that do not go together."""
    given = request["TransformInput"]
    kind = given["DataSource"]["S3DataSource"]["S3DataType"]
    if kind not in ("S3Prefix", "ManifestFile"):
        raise _not_built(f"S3DataType {kind}")
    if "DataCaptureConfig" in request:
        raise _not_built("DataCaptureConfig")
    payload = request.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB)
    if payload == 0 and request.get("BatchStrategy") == "MultiRecord":  # nothing would end one
        raise ValidationError("MaxPayloadInMB 0 cannot be used with BatchStrategy MultiRecord.")
    concurrent = request.get("MaxConcurrentTransforms", 1)
    if payload > _MOST_PAYLOAD_MB:
        raise ValidationError(f"MaxPayloadInMB must be at most {_MOST_PAYLOAD_MB}: {payload}.")
    if payload * concurrent > _MOST_PAYLOAD_MB:  # documented
        raise ValidationError(
            f"MaxConcurrentTransforms * MaxPayloadInMB must be at most {_MOST_PAYLOAD_MB} MB."
        )
    try:
        transform_spec(request)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def deployment_sources(request: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """The instances that hold the model, in the form of an endpoint's deployment.

    The variant has the name of the job, which is how its log streams begin.
    """
    resources = request["TransformResources"]
    variables = {**request.get("Environment", {}), **_variables(request)}
    changed = dict(model)
    if "PrimaryContainer" in model:
        changed["PrimaryContainer"] = _with(model["PrimaryContainer"], variables)
    else:
        changed["Containers"] = [_with(each, variables) for each in model["Containers"]]
    variant = {
        "VariantName": request["TransformJobName"],
        "ModelName": request["ModelName"],
        "InitialInstanceCount": resources["InstanceCount"],
        "InstanceType": resources["InstanceType"],
    }
    config = {
        "EndpointConfigName": request["TransformJobName"],
        "ProductionVariants": [variant],
    }
    return {"config": config, "models": {request["ModelName"]: changed}}


def check_model(model: Mapping[str, Any]) -> None:
    """Raise ValidationError for a model that cannot transform (developer guide)."""
    if any(each.get("Mode") == "MultiModel" for each in _containers(model)):
        raise ValidationError("Batch transform does not support multi-model containers.")


def _containers(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [model["PrimaryContainer"]] if "PrimaryContainer" in model else model["Containers"]


def _variables(request: Mapping[str, Any]) -> dict[str, str]:
    """What the platform adds: the last three only where the request names them (developer guide,
    "Use Your Own Inference Code with Batch Transform")."""
    values = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": request.get("MaxPayloadInMB"),
        "SAGEMAKER_BATCH_STRATEGY": _STRATEGIES.get(request.get("BatchStrategy", "")),
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": request.get("MaxConcurrentTransforms"),
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _with(container: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    return {**container, "Environment": {**container.get("Environment", {}), **variables}}


def _not_built(what: str) -> NotBuilt:
    return NotBuilt(f"CreateTransformJob with {what} is not built into sagemaker-emulator yet.")
