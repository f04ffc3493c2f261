"""A configuration and its models as the deployment that the engine keeps running. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from emulator.model.hosting import (
    AsyncOutput,
    Capture,
    ContainerSpec,
    Deployment,
    ModelData,
    Serverless,
    VariantSpec,
)
from emulator.model.workload import S3Uri
from emulator.resources.hosting.instance_types import serverless_type, type_of_same_size

MODEL = "/opt/ml/model"
ADDITIONAL = "/opt/ml/additional-model-data-sources"
STARTUP_SECONDS = 240.0
DOWNLOAD_SECONDS = 3600.0
CONCURRENT = 4
"""Invocations at once of an asynchronous instance that names no number: the service chooses it
itself (API reference)."""
CSV_TYPES = ("text/csv",)
JSON_TYPES = ("application/json",)


def read_deployment(sources: Mapping[str, Any]) -> Deployment:
    """Read Deployment.sources, whose requests the rules have accepted.

    - `config`: CreateEndpointConfig
    - `models`: CreateModel by name, of all variants and components
    - `desired`: by variant `weight` and `count`, where they are no longer those of `config`
    - `components`: CreateInferenceComponent by name
    - `capture`: a DataCaptureConfig instead of that of `config`, which an update has retained
    - `deployment_config`: DeploymentConfig of the request that made it

    Raises ValueError for an address or an instance type that cannot be used.
    """
    config, models = sources["config"], sources["models"]
    desired = sources.get("desired", {})
    shared = {
        "role_arn": config.get("ExecutionRoleArn", ""),
        "network_isolation": bool(config.get("EnableNetworkIsolation")),
    }
    asked = config["ProductionVariants"]
    by_name = {each["VariantName"]: each for each in asked}
    variants = [
        _variant(each, models, desired.get(each["VariantName"], {}), shared) for each in asked
    ]
    components = [
        _component(request, by_name[request["VariantName"]], models, desired.get(name, {}), shared)
        for name, request in sources.get("components", {}).items()
        if request["VariantName"] in by_name
    ]
    return Deployment(
        config_name=config["EndpointConfigName"],
        sources=sources,
        variants=(*variants, *components),
        shadows=tuple(
            _variant(each, models, desired.get(each["VariantName"], {}), shared)
            for each in config.get("ShadowProductionVariants", ())
        ),
        capture=_capture(sources.get("capture", config.get("DataCaptureConfig"))),
        queue=_queue(config.get("AsyncInferenceConfig")),
    )


def models_of(config: Mapping[str, Any]) -> list[str]:
    """The names of the models that a configuration's variants have."""
    variants = (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ()))
    return list(dict.fromkeys(each["ModelName"] for each in variants if "ModelName" in each))


def containers_of(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The container definitions of a CreateModel request."""
    return [model["PrimaryContainer"]] if "PrimaryContainer" in model else model["Containers"]


def _variant(
    asked: Mapping[str, Any],
    models: Mapping[str, Any],
    desired: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> VariantSpec:
    model = models[asked["ModelName"]] if "ModelName" in asked else None
    limits = asked.get("ServerlessConfig")
    serverless = limits and Serverless(limits["MemorySizeInMB"], limits["MaxConcurrency"])
    scaling = asked.get("ManagedInstanceScaling", {})
    min_count = scaling.get("MinInstanceCount") if scaling.get("Status") == "ENABLED" else None
    if serverless:
        instance_type, count, min_count = serverless_type(serverless.memory_mb), 1, 0
    else:
        instance_type = type_of_same_size(asked["InstanceType"])
        count = desired.get("count", asked["InitialInstanceCount"])
    read = VariantSpec(
        name=asked["VariantName"],
        containers=(),
        instance_type=instance_type,
        # Instances begin with the components that are put on them.
        count=count if model is not None else 0,
        weight=desired.get("weight", asked.get("InitialVariantWeight", 1.0)),
        random=asked.get("RoutingConfig", {}).get("RoutingStrategy") == "RANDOM",
        startup_seconds=asked.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS),
        download_seconds=asked.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS),
        serverless=serverless or None,
        min_count=min_count,
        **shared,
    )
    return read if model is None else _with_model(read, model)


def _component(
    request: Mapping[str, Any],
    variant: Mapping[str, Any],
    models: Mapping[str, Any],
    desired: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> VariantSpec:
    """Each copy of a component is an instance of its own here, with the GPUs that it asks for."""
    asked = request["Specification"]
    needs = asked.get("ComputeResourceRequirements", {})
    gpus = int(needs.get("NumberOfAcceleratorDevicesRequired", 0))
    startup = asked.get("StartupParameters", {})
    host = VariantSpec(
        name=request["InferenceComponentName"],
        containers=(),
        instance_type=f"ml.local.{gpus}gpu" if gpus else type_of_same_size(variant["InstanceType"]),
        count=desired.get("count", request.get("RuntimeConfig", {}).get("CopyCount", 1)),
        weight=0.0,
        startup_seconds=startup.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS),
        download_seconds=startup.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS),
        component_of=variant["VariantName"],
        **shared,
    )
    if "ModelName" in asked:
        return _with_model(host, models[asked["ModelName"]])
    given = asked["Container"]
    container = {name: given[name] for name in ("Image", "Environment") if name in given}
    if "ArtifactUrl" in given:
        container["ModelDataUrl"] = given["ArtifactUrl"]
    return _with_model(host, {"PrimaryContainer": container})


def _with_model(variant: VariantSpec, model: Mapping[str, Any]) -> VariantSpec:
    mode = model.get("InferenceExecutionConfig", {}).get("Mode", "Serial")
    return replace(
        variant,
        containers=tuple(
            _container(each, number) for number, each in enumerate(containers_of(model), start=1)
        ),
        model=model.get("ModelName"),
        direct=mode == "Direct",
        network_isolation=variant.network_isolation or bool(model.get("EnableNetworkIsolation")),
        role_arn=model.get("ExecutionRoleArn", variant.role_arn),
    )


def _container(asked: Mapping[str, Any], number: int) -> ContainerSpec:
    is_multi = asked.get("Mode") == "MultiModel"
    return ContainerSpec(
        hostname=asked.get("ContainerHostname", f"container-{number}"),
        image=asked["Image"],
        environment=dict(asked.get("Environment", {})),
        data=tuple(_additional(asked)) if is_multi else (*_data(asked), *_additional(asked)),
        models=S3Uri.parse(_multi_model_prefix(asked)) if is_multi else None,
    )


def _multi_model_prefix(asked: Mapping[str, Any]) -> str:
    source = asked.get("ModelDataSource", {}).get("S3DataSource", {})
    return str(asked.get("ModelDataUrl") or source["S3Uri"])


def _data(asked: Mapping[str, Any]) -> Iterator[ModelData]:
    if "ModelDataUrl" in asked:
        yield ModelData(S3Uri.parse(asked["ModelDataUrl"]), "archive", MODEL)
    elif "ModelDataSource" in asked:
        yield _source(asked["ModelDataSource"]["S3DataSource"], MODEL)


def _additional(asked: Mapping[str, Any]) -> Iterator[ModelData]:
    for each in asked.get("AdditionalModelDataSources", ()):
        yield _source(each["S3DataSource"], f"{ADDITIONAL}/{each['ChannelName']}")


def _source(asked: Mapping[str, Any], path: str) -> ModelData:
    uri = S3Uri.parse(asked["S3Uri"])
    if asked["S3DataType"] == "S3Prefix":
        return ModelData(uri, "prefix", path)
    return ModelData(uri, "archive" if asked["CompressionType"] == "Gzip" else "object", path)


def _capture(asked: Mapping[str, Any] | None) -> Capture | None:
    if not asked or not asked.get("EnableCapture"):
        return None
    modes = {each["CaptureMode"] for each in asked["CaptureOptions"]}
    types = asked.get("CaptureContentTypeHeader", {})
    return Capture(
        destination=S3Uri.parse(asked["DestinationS3Uri"]),
        percentage=asked["InitialSamplingPercentage"],
        inputs=bool(modes & {"Input", "InputAndOutput"}),
        outputs=bool(modes & {"Output", "InputAndOutput"}),
        csv_types=tuple(types.get("CsvContentTypes", CSV_TYPES)),
        json_types=tuple(types.get("JsonContentTypes", JSON_TYPES)),
    )


def _queue(asked: Mapping[str, Any] | None) -> AsyncOutput | None:
    if asked is None:
        return None
    output = asked["OutputConfig"]
    failure = output.get("S3FailurePath")
    return AsyncOutput(
        output=S3Uri.parse(output["S3OutputPath"]),
        failure=S3Uri.parse(failure) if failure else None,
        max_concurrent=asked.get("ClientConfig", {}).get(
            "MaxConcurrentInvocationsPerInstance", CONCURRENT
        ),
    )
