"""What the requests on models, configurations and endpoints may not have, although every single
member is well formed. Pure.

The API reference and the developer guide have the rules; words that were seen from the service
are in words.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.model.workload import S3Uri
from emulator.resources.hosting import words
from emulator.resources.hosting.deployment import containers_of
from emulator.resources.hosting.instance_types import type_of_same_size

ENVIRONMENT_LIMIT = 32 * 1024
"""Bytes of all names and values of a container's variables (API reference)."""
INSTANCE_LIMIT = 100
"""Instances of one type in an endpoint: the quota of this emulator."""
_SERVERLESS_STEP = 1024


def check_model(request: Mapping[str, Any]) -> None:
    """Raise ValidationError or NotBuilt for a CreateModel request."""
    if ("PrimaryContainer" in request) == ("Containers" in request):
        raise ValidationError(
            "Either PrimaryContainer or Containers must be specified, and not both of them."
        )
    if "ExecutionRoleArn" not in request:
        raise _null("executionRoleArn")
    containers = containers_of(request)
    if not containers:
        raise ValidationError("Containers must have at least one container.")
    for number, container in enumerate(containers, start=1):
        _check_container(container, f"container {number}")
    if len(containers) > 1:
        if any(each.get("Mode") == "MultiModel" for each in containers):
            raise ValidationError("Mode MultiModel is not supported in an inference pipeline.")
        _check_unique(
            "ContainerHostname",
            (
                each.get("ContainerHostname", f"container-{number}")
                for number, each in enumerate(containers, start=1)
            ),
        )
    direct = request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct"
    if direct and not all("ContainerHostname" in each for each in containers):
        raise ValidationError(
            "ContainerHostname is required for every container where the inference execution mode "
            "is Direct."
        )


def model_data(request: Mapping[str, Any]) -> Iterator[tuple[S3Uri, bool]]:
    """The model data that has to be there when a model is created, and whether it is a prefix.

    A multi-model container's models may come later.
    """
    for container in containers_of(request):
        if container.get("Mode") != "MultiModel":
            if "ModelDataUrl" in container:
                yield S3Uri.parse(container["ModelDataUrl"]), False
            elif "ModelDataSource" in container:
                yield _where(container["ModelDataSource"]["S3DataSource"])
        for each in container.get("AdditionalModelDataSources", ()):
            yield _where(each["S3DataSource"])


def check_config(request: Mapping[str, Any]) -> None:
    """Raise ValidationError or NotBuilt for a CreateEndpointConfig request."""
    if "ExplainerConfig" in request:
        raise _not_built("CreateEndpointConfig with ExplainerConfig")
    variants = request["ProductionVariants"]
    shadows = request.get("ShadowProductionVariants", [])
    if not variants:
        raise ValidationError("ProductionVariants must have at least one variant.")
    if shadows and (len(variants), len(shadows)) != (1, 1):
        raise ValidationError(
            "With ShadowProductionVariants there can be only one variant in ProductionVariants and "
            "one in ShadowProductionVariants."
        )
    _check_unique("VariantName", (each["VariantName"] for each in (*variants, *shadows)))
    for each in (*variants, *shadows):
        _check_variant(each)
    without_model = [each for each in variants if "ModelName" not in each]
    if without_model and "ExecutionRoleArn" not in request:
        raise ValidationError(
            "ExecutionRoleArn is required where a variant has no ModelName "
            f"({without_model[0]['VariantName']})."
        )
    if without_model and len(without_model) < len(variants):
        raise ValidationError(
            "Either all variants have a ModelName, or none has one and inference components are "
            "put on them."
        )
    if sum(each.get("InitialVariantWeight", 1.0) for each in variants) <= 0:
        raise ValidationError("At least one variant must have a weight above 0.")
    _check_addresses(request)


def check_deployment(request: Mapping[str, Any]) -> None:
    """Raise NotBuilt for what CreateEndpoint and UpdateEndpoint cannot do here."""
    alarms = request.get("DeploymentConfig", {}).get("AutoRollbackConfiguration", {}).get("Alarms")
    if alarms:
        raise _not_built("AutoRollbackConfiguration with alarms")


def check_capacities(request: Mapping[str, Any], variants: Iterable[str]) -> None:
    """Raise ValidationError for UpdateEndpointWeightsAndCapacities."""
    known, asked = set(variants), request["DesiredWeightsAndCapacities"]
    _check_unique("VariantName", (each["VariantName"] for each in asked))
    for each in asked:
        if each["VariantName"] not in known:
            raise ValidationError(
                f'Could not find variant "{each["VariantName"]}" in endpoint '
                f'"{request["EndpointName"]}".'
            )
        if "ServerlessUpdateConfig" in each:
            raise _not_built("ServerlessUpdateConfig")
        if each.get("DesiredInstanceCount", 0) > INSTANCE_LIMIT:
            count = each["DesiredInstanceCount"]
            raise _quota(each["VariantName"], count)


def check_component(request: Mapping[str, Any]) -> None:
    """Raise ValidationError or NotBuilt for a CreateInferenceComponent request."""
    if "Specifications" in request:
        raise _not_built("CreateInferenceComponent with Specifications")
    if "Specification" not in request:
        raise _null("specification")
    asked = request["Specification"]
    if "BaseInferenceComponentName" in asked:
        raise _not_built("BaseInferenceComponentName")
    if ("ModelName" in asked) == ("Container" in asked):
        raise ValidationError("Either ModelName or Container must be specified, and not both.")
    if "Container" in asked and "Image" not in asked["Container"]:
        raise _null("specification.container.image")
    needs = asked.get("ComputeResourceRequirements", {})
    if needs.get("NumberOfAcceleratorDevicesRequired", 1) % 1:
        raise _not_built("NumberOfAcceleratorDevicesRequired that is no whole number")


def _check_container(container: Mapping[str, Any], name: str) -> None:
    if "ModelPackageName" in container:
        raise _not_built("CreateModel with ModelPackageName")
    if "Image" not in container:
        raise ValidationError(f"The {name} has no Image.")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise ValidationError(f"ModelDataUrl and ModelDataSource cannot be used together ({name}).")
    if container.get("Mode") == "MultiModel" and not _has_data(container):
        raise ValidationError(f"ModelDataUrl is required where Mode is MultiModel ({name}).")
    size = sum(
        len(k.encode()) + len(v.encode()) for k, v in container.get("Environment", {}).items()
    )
    if size > ENVIRONMENT_LIMIT:
        raise ValidationError(
            f"The environment variables of the {name} have {size} bytes; at most "
            f"{ENVIRONMENT_LIMIT} are allowed."
        )
    sources = [each["S3DataSource"] for each in container.get("AdditionalModelDataSources", ())]
    _check_unique(
        "ChannelName",
        (each["ChannelName"] for each in container.get("AdditionalModelDataSources", ())),
    )
    if "ModelDataSource" in container:
        if "S3DataSource" not in container["ModelDataSource"]:
            raise _null("modelDataSource.s3DataSource")
        sources.append(container["ModelDataSource"]["S3DataSource"])
    for source in sources:
        _check_source(source, name)
    if "ModelDataUrl" in container:
        _parsed(container["ModelDataUrl"])


def _check_source(source: Mapping[str, Any], name: str) -> None:
    for member in ("ManifestS3Uri", "HubAccessConfig"):
        if member in source:
            raise _not_built(f"CreateModel with {member}")
    _parsed(source["S3Uri"])
    if source["S3DataType"] == "S3Prefix":
        if source["CompressionType"] == "Gzip":
            raise ValidationError(
                f"CompressionType Gzip requires S3DataType S3Object ({name}: {source['S3Uri']})."
            )
        if not source["S3Uri"].endswith("/"):
            raise ValidationError(
                f"The S3Uri of S3DataType S3Prefix must end with a slash: {source['S3Uri']}"
            )


def _check_variant(variant: Mapping[str, Any]) -> None:
    name = variant["VariantName"]
    for member in ("InstancePools", "AcceleratorType", "AcceleratorPartitionLayouts"):
        if member in variant:
            raise _not_built(f"CreateEndpointConfig with {member}")
    if "ServerlessConfig" in variant:
        _check_serverless(variant)
        return
    for member in ("InstanceType", "InitialInstanceCount"):
        if member not in variant:
            raise ValidationError(f"{member} is required for the variant {name}.")
    try:
        type_of_same_size(variant["InstanceType"])
    except ValueError as error:
        raise ValidationError(str(error)) from error
    if variant["InitialInstanceCount"] > INSTANCE_LIMIT:
        raise _quota(variant["InstanceType"], variant["InitialInstanceCount"])


def _check_serverless(variant: Mapping[str, Any]) -> None:
    name = variant["VariantName"]
    if "InstanceType" in variant or "InitialInstanceCount" in variant:
        raise ValidationError(
            f"The variant {name} has a ServerlessConfig and therefore cannot have InstanceType "
            "or InitialInstanceCount."
        )
    if "ModelName" not in variant:
        raise _null("modelName")
    memory = variant["ServerlessConfig"]["MemorySizeInMB"]
    if memory % _SERVERLESS_STEP:
        raise ValidationError(
            f"MemorySizeInMB of the variant {name} must be a multiple of 1024: {memory}."
        )


def _check_addresses(request: Mapping[str, Any]) -> None:
    if capture := request.get("DataCaptureConfig"):
        _parsed(capture["DestinationS3Uri"])
    if queue := request.get("AsyncInferenceConfig"):
        if "S3OutputPath" not in queue["OutputConfig"]:
            raise _null("asyncInferenceConfig.outputConfig.s3OutputPath")
        for member in ("S3OutputPath", "S3FailurePath"):
            if member in queue["OutputConfig"]:
                _parsed(queue["OutputConfig"][member])


def _has_data(container: Mapping[str, Any]) -> bool:
    return "ModelDataUrl" in container or "ModelDataSource" in container


def _where(source: Mapping[str, Any]) -> tuple[S3Uri, bool]:
    return S3Uri.parse(source["S3Uri"]), source["S3DataType"] == "S3Prefix"


def _parsed(uri: str) -> S3Uri:
    try:
        return S3Uri.parse(uri)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _check_unique(member: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValidationError(f"The {member} {twice[0]} is used more than once.")


def _null(path: str) -> ValidationError:
    return ValidationError(
        f"1 validation error detected: Value null at '{path}' failed to satisfy constraint: "
        "Member must not be null"
    )


def _quota(instance_type: str, count: int) -> ApiError:
    return ApiError(words.quota(instance_type, INSTANCE_LIMIT, count), code="ResourceLimitExceeded")


def _not_built(what: str) -> NotBuilt:
    return NotBuilt(f"{what} is not built into sagemaker-emulator yet.")
