"""SageMaker's inference components: models that are put on an endpoint one by one.

Each copy is an instance of its own here. While copies start or end, the endpoint is Updating.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from emulator.aws.images import KnownImages
from emulator.aws.operation import Call, Operations
from emulator.aws.services import listing
from emulator.aws.services.endpoints import Endpoints, endpoint_named, read_sources
from emulator.aws.services.tags import check_tags, values_by_key
from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.model.hosting import Endpoint, EndpointStatus
from emulator.resources.hosting import rules, words
from emulator.workloads.serving.store import COMPONENT, ENDPOINT, MODEL, HostingStore, Resource


def operations(
    engine: Endpoints,
    store: HostingStore,
    images: KnownImages | None = None,
    clock: Callable[[], float] = time.time,
) -> Operations:
    """The operations by name; without `images` every image exists."""

    def create(call: Call) -> dict[str, Any]:
        endpoint, request = _checked(store, images, call)
        now = round(clock(), 3)
        tags = values_by_key(request.pop("Tags", ()))
        name = request["InferenceComponentName"]
        row = Resource(COMPONENT, call.scope, name, now, now, request, "Creating", tags=tags)
        store.create(row)
        try:
            _change(engine, store, endpoint, name, request)
        except ApiError:
            store.delete(COMPONENT, call.scope, name)
            raise
        return {"InferenceComponentArn": row.arn}

    def set_copies(call: Call) -> dict[str, Any]:
        wished = call.params["DesiredRuntimeConfig"]
        return _updated(call, {"RuntimeConfig": wished})

    def update(call: Call) -> dict[str, Any]:
        return _updated(call, _changes(call.params))

    def _updated(call: Call, changes: Mapping[str, Any]) -> dict[str, Any]:
        row = store.get(COMPONENT, call.scope, call.params["InferenceComponentName"])
        endpoint = endpoint_named(store, call.scope, row.request["EndpointName"])
        request = {**row.request, **changes}
        _change(engine, store, endpoint, row.name, request)
        now = round(clock(), 3)
        store.update(
            COMPONENT,
            call.scope,
            row.name,
            lambda each: replace(each, request=request, status="Updating", modified=now),
        )
        return {"InferenceComponentArn": row.arn}

    def delete(call: Call) -> None:
        row = store.get(COMPONENT, call.scope, call.params["InferenceComponentName"])
        endpoint = store.endpoint(call.scope, row.request["EndpointName"])
        if endpoint is not None:
            _change(engine, store, endpoint, row.name, None)
        store.delete(COMPONENT, call.scope, row.name)

    def describe_component(call: Call) -> dict[str, Any]:
        row = store.get(COMPONENT, call.scope, call.params["InferenceComponentName"])
        return describe(row, *_state(engine, store, row))

    def list_components(call: Call) -> dict[str, Any]:
        return _page(engine, store, call)

    return {
        "CreateInferenceComponent": create,
        "DeleteInferenceComponent": delete,
        "DescribeInferenceComponent": describe_component,
        "ListInferenceComponents": list_components,
        "UpdateInferenceComponent": update,
        "UpdateInferenceComponentRuntimeConfig": set_copies,
    }


def _checked(
    store: HostingStore, images: KnownImages | None, call: Call
) -> tuple[Endpoint, dict[str, Any]]:
    """The endpoint, and the request with its variant; raises ApiError."""
    request = dict(call.params)
    rules.check_component(request)
    check_tags(request.get("Tags", ()))
    endpoint = endpoint_named(store, call.scope, request["EndpointName"])
    request["VariantName"] = _host_variant(endpoint, request.get("VariantName"))
    container = request["Specification"].get("Container")
    if images and container:
        images.check_for_model(container["Image"], call.scope.account)
    return endpoint, request


def _changes(params: Mapping[str, Any]) -> dict[str, Any]:
    """What UpdateInferenceComponent changes; raises NotBuilt."""
    if "Specification" in params or "Specifications" in params:
        raise NotBuilt(
            "UpdateInferenceComponent with another specification is not built into "
            "sagemaker-emulator yet. Delete the component and create it anew."
        )
    return {name: value for name, value in params.items() if name == "RuntimeConfig"}


def describe(row: Resource, status: str, reason: str | None, copies: int) -> dict[str, Any]:
    """The answer of DescribeInferenceComponent (pure)."""
    request = row.request
    asked = dict(request["Specification"])
    if container := asked.get("Container"):
        image = {"SpecifiedImage": container["Image"]}
        others = {name: value for name, value in container.items() if name != "Image"}
        asked["Container"] = {**others, "DeployedImage": image}
    return {
        "InferenceComponentName": row.name,
        "InferenceComponentArn": row.arn,
        "EndpointName": request["EndpointName"],
        "EndpointArn": row.scope.arn(ENDPOINT, request["EndpointName"]),
        "VariantName": request["VariantName"],
        "Specification": asked,
        "RuntimeConfig": {"DesiredCopyCount": _wanted(request), "CurrentCopyCount": copies},
        "CreationTime": row.created,
        "LastModifiedTime": row.modified,
        "InferenceComponentStatus": status,
        "FailureReason": reason,
    }


def _wanted(request: Mapping[str, Any]) -> int:
    return int(request.get("RuntimeConfig", {}).get("CopyCount", 1))


def _host_variant(endpoint: Endpoint, name: str | None) -> str:
    """The variant that a component is put on; raises ValidationError."""
    current = endpoint.current
    if current is None or endpoint.status is EndpointStatus.FAILED:
        raise ValidationError(words.in_progress(endpoint.arn))
    hosts = [each.name for each in current.variants if each.model is None and not each.containers]
    if not hosts:
        raise ValidationError(
            f'The variants of endpoint "{endpoint.arn}" have models of their own; inference '
            "components need a variant without ModelName."
        )
    if name is None:
        return hosts[0]
    if name not in hosts:
        raise ValidationError(f'Could not find variant "{name}" in endpoint "{endpoint.name}".')
    return name


def _change(
    engine: Endpoints,
    store: HostingStore,
    endpoint: Endpoint,
    name: str,
    request: Mapping[str, Any] | None,
) -> None:
    """Let the endpoint have the component so, or no more; raises ValidationError."""
    current = endpoint.current
    if current is None:
        raise ValidationError(words.in_progress(endpoint.arn))
    sources = current.sources
    components = {**sources.get("components", {})}
    models = {**sources["models"]}
    desired = {key: each for key, each in sources.get("desired", {}).items() if key != name}
    if request is None:
        components.pop(name, None)
    else:
        components[name] = request
        if model := request["Specification"].get("ModelName"):
            # A component keeps the model that it was started with.
            kept = sources.get("components", {}).get(name) and models.get(model)
            models[model] = kept or store.get(MODEL, endpoint.scope, model).request
    changed = {**sources, "components": components, "models": models, "desired": desired}
    engine.set_capacities(endpoint.scope, endpoint.name, read_sources(changed))


def _page(engine: Endpoints, store: HostingStore, call: Call) -> dict[str, Any]:
    """The answer of ListInferenceComponents."""
    params = dict(call.params)
    wanted = params.pop("StatusEquals", None)

    def keep(row: Resource) -> bool:
        members = ("EndpointName", "VariantName")
        return all(
            params.get(f"{each}Equals", row.request[each]) == row.request[each] for each in members
        ) and wanted in (None, _state(engine, store, row)[0])

    page = listing.page(store.all(COMPONENT, call.scope), params, keep)
    return {
        "InferenceComponents": [
            {
                "CreationTime": row.created,
                "InferenceComponentArn": row.arn,
                "InferenceComponentName": row.name,
                "EndpointArn": row.scope.arn(ENDPOINT, row.request["EndpointName"]),
                "EndpointName": row.request["EndpointName"],
                "VariantName": row.request["VariantName"],
                "InferenceComponentStatus": _state(engine, store, row)[0],
                "LastModifiedTime": row.modified,
            }
            for row in page.rows
        ],
        "NextToken": page.token,
    }


def _state(engine: Endpoints, store: HostingStore, row: Resource) -> tuple[str, str | None, int]:
    """InferenceComponentStatus, FailureReason and the copies that serve."""
    endpoint = store.endpoint(row.scope, row.request["EndpointName"])
    if endpoint is None or endpoint.status is EndpointStatus.FAILED:
        return "Failed", endpoint.failure_reason if endpoint else "The endpoint was deleted.", 0
    live = engine.live(row.scope, endpoint.name).get(row.name)
    copies = live.in_service if live else 0
    if copies >= _wanted(row.request):
        return "InService", None, copies
    if endpoint.status is EndpointStatus.IN_SERVICE and endpoint.failure_reason:
        return "Failed", endpoint.failure_reason, copies
    return row.status or "Creating", None, copies
