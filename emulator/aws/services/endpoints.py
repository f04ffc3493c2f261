"""SageMaker's endpoints: create, describe, list, update, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emulator.aws.operation import Call, Operations
from emulator.aws.services import listing
from emulator.aws.services.tags import check_tags, values_by_key
from emulator.model.errors import ValidationError
from emulator.model.hosting import (
    Deployment,
    Endpoint,
    EndpointStatus,
    LiveVariant,
    VariantSpec,
    is_hidden,
)
from emulator.model.image import read_address
from emulator.model.scope import Scope
from emulator.resources.hosting import read_deployment, rules, words
from emulator.resources.hosting.deployment import models_of
from emulator.workloads.serving.store import (
    COMPONENT,
    CONFIG,
    ENDPOINT,
    MODEL,
    HostingStore,
    not_found,
)

_EXCLUDABLE = {"DesiredInstanceCount": "count", "DesiredWeight": "weight"}
_UPDATABLE = (EndpointStatus.IN_SERVICE,)


class Endpoints(Protocol):
    """Who keeps endpoints running."""

    def create(self, endpoint: Endpoint) -> Endpoint:
        """Keep and start a new endpoint; raises ValidationError where the name is taken."""
        ...

    def update(self, scope: Scope, name: str, deployment: Deployment) -> Endpoint:
        """Start the deployment and let it take over; raises ValidationError."""
        ...

    def set_capacities(self, scope: Scope, name: str, deployment: Deployment) -> Endpoint:
        """The same models with other weights and counts; raises ValidationError."""
        ...

    def delete(self, scope: Scope, name: str) -> None:
        """End an endpoint; raises ValidationError."""
        ...

    def live(self, scope: Scope, name: str) -> Mapping[str, LiveVariant]:
        """What runs of each variant now."""
        ...

    def live_next(self, scope: Scope, name: str) -> Mapping[str, LiveVariant]:
        """The same of the deployment that an update brings up."""
        ...


def operations(
    endpoints: Endpoints, store: HostingStore, clock: Callable[[], float] = time.time
) -> Operations:
    """The operations by name; `clock` gives epoch seconds."""

    def create(call: Call) -> dict[str, Any]:
        request = call.params
        rules.check_deployment(request)
        check_tags(request.get("Tags", ()))
        sources = _sources(store, call.scope, request)
        now = round(clock(), 3)
        endpoint = Endpoint(
            scope=call.scope,
            name=request["EndpointName"],
            status=EndpointStatus.CREATING,
            created=now,
            modified=now,
            request={name: value for name, value in request.items() if name != "Tags"},
            tags=values_by_key(request.get("Tags", ())),
            pending=read_sources(sources),
            pending_since=now,
        )
        endpoints.create(endpoint)
        return {"EndpointArn": endpoint.arn}

    def update(call: Call) -> dict[str, Any]:
        request = call.params
        rules.check_deployment(request)
        endpoint = endpoint_named(store, call.scope, request["EndpointName"])
        _check_status(endpoint)
        deployment = read_sources(_update_sources(store, endpoint, request))
        return {"EndpointArn": endpoints.update(call.scope, endpoint.name, deployment).arn}

    def set_capacities(call: Call) -> dict[str, Any]:
        request = call.params
        endpoint = endpoint_named(store, call.scope, request["EndpointName"])
        _check_status(endpoint)
        deployment = _with_capacities(endpoint, request)
        return {"EndpointArn": endpoints.set_capacities(call.scope, endpoint.name, deployment).arn}

    def delete(call: Call) -> None:
        name = call.params["EndpointName"]
        endpoints.delete(call.scope, name)
        _forget_components(store, call.scope, name)

    def describe_endpoint(call: Call) -> Mapping[str, Any]:
        endpoint = endpoint_named(store, call.scope, call.params["EndpointName"])
        live, coming = (
            each(call.scope, endpoint.name) for each in (endpoints.live, endpoints.live_next)
        )
        return describe(endpoint, live, coming if endpoint.current else live)

    def list_endpoints(call: Call) -> dict[str, Any]:
        rows = store.all(ENDPOINT, call.scope)
        page = listing.page(rows, call.params, lambda row: not is_hidden(row.name))
        return {
            "Endpoints": [
                {
                    "EndpointName": each.name,
                    "EndpointArn": each.arn,
                    "CreationTime": each.created,
                    "LastModifiedTime": each.modified,
                    "EndpointStatus": each.status,
                }
                for each in page.rows
            ],
            "NextToken": page.token,
        }

    return {
        "CreateEndpoint": create,
        "DeleteEndpoint": delete,
        "DescribeEndpoint": describe_endpoint,
        "ListEndpoints": list_endpoints,
        "UpdateEndpoint": update,
        "UpdateEndpointWeightsAndCapacities": set_capacities,
    }


def describe(
    endpoint: Endpoint, live: Mapping[str, LiveVariant], coming: Mapping[str, LiveVariant]
) -> dict[str, Any]:
    """The answer of DescribeEndpoint (pure); `coming` is what runs of the pending deployment.

    While an update runs, the configuration is that which still serves.
    """
    shown = endpoint.current or endpoint.pending
    answer: dict[str, Any] = {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointConfigName": shown.config_name
        if shown
        else endpoint.request["EndpointConfigName"],
        "EndpointStatus": endpoint.status.value,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "FailureReason": endpoint.failure_reason,
    }
    if current := endpoint.current:
        config = current.sources["config"]
        since = endpoint.modified
        answer["ProductionVariants"] = _variants(current, "ProductionVariants", live, since)
        if current.shadows:
            answer["ShadowProductionVariants"] = _variants(
                current, "ShadowProductionVariants", live, since
            )
        answer["DataCaptureConfig"] = _capture(current)
        answer["AsyncInferenceConfig"] = config.get("AsyncInferenceConfig")
        answer["LastDeploymentConfig"] = current.sources.get("deployment_config")
    if (pending := endpoint.pending) and endpoint.status.in_progress:
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending.config_name,
            "ProductionVariants": [
                {**_pending(each), **_status(coming.get(each.name))}
                for each in pending.variants
                if each.component_of is None
            ],
            "StartTime": endpoint.pending_since,
        }
    return answer


def _forget_components(store: HostingStore, scope: Scope, endpoint: str) -> None:
    """They cannot be without their endpoint."""
    for row in store.all(COMPONENT, scope):
        if row.request["EndpointName"] == endpoint:
            store.delete(COMPONENT, scope, row.name)


def endpoint_named(store: HostingStore, scope: Scope, name: str) -> Endpoint:
    """Raises ValidationError where there is none."""
    endpoint = store.endpoint(scope, name)
    if endpoint is None:
        raise not_found(ENDPOINT, scope.arn(ENDPOINT, name))
    return endpoint


def _check_status(endpoint: Endpoint) -> None:
    """Raise ValidationError unless it may be updated; the engine asks again in a transaction."""
    if endpoint.status.in_progress:
        raise ValidationError(words.in_progress(endpoint.arn))
    if endpoint.status not in _UPDATABLE:
        raise ValidationError(
            f'Endpoint "{endpoint.arn}" is {endpoint.status.value} and can only be deleted.'
        )


def _sources(store: HostingStore, scope: Scope, request: Mapping[str, Any]) -> dict[str, Any]:
    """Deployment.sources of the configuration that the request names; raises ValidationError."""
    config = store.get(CONFIG, scope, request["EndpointConfigName"]).request
    return {
        "config": config,
        "models": {name: store.get(MODEL, scope, name).request for name in models_of(config)},
        "deployment_config": request.get("DeploymentConfig"),
    }


def _update_sources(
    store: HostingStore, endpoint: Endpoint, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of UpdateEndpoint, with what it retains; raises ValidationError."""
    sources, current = _sources(store, endpoint.scope, request), endpoint.current
    if current is None:
        return sources
    if components := current.sources.get("components"):
        sources["components"] = components
        sources["models"] = {**current.sources["models"], **sources["models"]}
    if request.get("RetainDeploymentConfig"):
        sources["deployment_config"] = current.sources.get("deployment_config")
    if request.get("RetainAllVariantProperties"):
        excluded = {
            each["VariantPropertyType"]
            for each in request.get("ExcludeRetainedVariantProperties", ())
        }
        sources.update(_retained(current, sources["config"], excluded))
    return sources


def read_sources(sources: Mapping[str, Any]) -> Deployment:
    """Raises ValidationError for an address that is none."""
    try:
        return read_deployment(sources)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _with_capacities(endpoint: Endpoint, request: Mapping[str, Any]) -> Deployment:
    """What serves, with the weights and counts of the request; raises ValidationError."""
    current = endpoint.current
    if current is None:
        raise ValidationError(words.in_progress(endpoint.arn))
    rules.check_capacities(request, (each.name for each in current.all_variants))
    desired = {name: dict(each) for name, each in current.sources.get("desired", {}).items()}
    for each in request["DesiredWeightsAndCapacities"]:
        wished = desired.setdefault(each["VariantName"], {})
        if "DesiredWeight" in each:
            wished["weight"] = each["DesiredWeight"]
        if "DesiredInstanceCount" in each:
            wished["count"] = each["DesiredInstanceCount"]
    deployment = read_sources({**current.sources, "desired": desired})
    if sum(each.weight for each in deployment.variants) <= 0:
        raise ValidationError("At least one variant must have a weight above 0.")
    return deployment


def _retained(current: Deployment, config: Mapping[str, Any], excluded: set[str]) -> dict[str, Any]:
    """What RetainAllVariantProperties takes over, but for what is excluded (API reference)."""
    members = [word for name, word in _EXCLUDABLE.items() if name not in excluded]
    present = {each.name: {"weight": each.weight, "count": each.count} for each in current.variants}
    names = {each["VariantName"] for each in config["ProductionVariants"]} & present.keys()
    kept: dict[str, Any] = {
        "desired": {name: {word: present[name][word] for word in members} for name in names}
    }
    if "DataCaptureConfig" not in excluded:
        sources = current.sources
        kept["capture"] = sources.get("capture", sources["config"].get("DataCaptureConfig"))
    return kept


def _variants(
    deployment: Deployment, member: str, live: Mapping[str, LiveVariant], since: float
) -> list[dict[str, Any]]:
    specs = {each.name: each for each in deployment.all_variants}
    return [
        _variant(asked, specs[asked["VariantName"]], live.get(asked["VariantName"]), since)
        for asked in deployment.sources["config"].get(member, ())
    ]


def _variant(
    asked: Mapping[str, Any], spec: VariantSpec, live: LiveVariant | None, since: float
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "VariantName": spec.name,
        "CurrentWeight": spec.weight,
        "DesiredWeight": spec.weight,
        "ManagedInstanceScaling": asked.get("ManagedInstanceScaling"),
        "RoutingConfig": asked.get("RoutingConfig"),
        **_status(live),
    }
    if spec.containers:
        answer["DeployedImages"] = [
            {
                "SpecifiedImage": each.image,
                "ResolvedImage": _resolved(each.image),
                "ResolutionTime": since,
            }
            for each in spec.containers
        ]
    if spec.serverless:
        answer["CurrentServerlessConfig"] = asked["ServerlessConfig"]
    elif spec.model is None:  # its instances are those of components
        answer["CurrentInstanceCount"] = answer["DesiredInstanceCount"] = asked[
            "InitialInstanceCount"
        ]
    else:
        answer["CurrentInstanceCount"] = live.in_service if live else 0
        answer["DesiredInstanceCount"] = spec.count
    return answer


def _status(live: LiveVariant | None) -> dict[str, Any]:
    if live is None or live.status is None:
        return {}
    since = live.since or None
    return {
        "VariantStatus": [
            {"Status": live.status, "StatusMessage": live.message or None, "StartTime": since}
        ]
    }


def _pending(spec: VariantSpec) -> dict[str, Any]:
    return {
        "VariantName": spec.name,
        "DesiredWeight": spec.weight,
        **({} if spec.serverless else {"DesiredInstanceCount": spec.count}),
        "DeployedImages": [{"SpecifiedImage": each.image} for each in spec.containers],
    }


def _resolved(image: str) -> str | None:
    """The service names the digest; here only an image that was asked for by its digest has one."""
    address = read_address(image)
    return image if address and address.digest else None


def _capture(deployment: Deployment) -> dict[str, Any] | None:
    asked = deployment.sources.get("capture", deployment.sources["config"].get("DataCaptureConfig"))
    if not asked:
        return None
    enabled = bool(asked.get("EnableCapture"))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": asked["InitialSamplingPercentage"],
        "DestinationS3Uri": asked["DestinationS3Uri"],
        "KmsKeyId": asked.get("KmsKeyId", ""),
    }
