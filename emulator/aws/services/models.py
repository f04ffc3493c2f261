"""SageMaker's models: create, describe, list, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emulator.aws.images import KnownImages
from emulator.aws.operation import Call, Operations
from emulator.aws.roles import Roles
from emulator.aws.services import listing
from emulator.aws.services.tags import check_tags, values_by_key
from emulator.data.objectstore.failures import StoreError
from emulator.model.errors import ApiError, ValidationError
from emulator.model.workload import S3Uri
from emulator.resources.hosting import rules, words
from emulator.resources.hosting.deployment import containers_of
from emulator.workloads.serving.store import MODEL, HostingStore, Resource


class Objects(Protocol):
    """Where model data is."""

    def exists(self, bucket: str, prefix: str) -> bool:
        """Is there any key that starts with `prefix`? Raises StoreError."""
        ...

    def stat(self, bucket: str, key: str) -> object:
        """Raises StoreError where there is no such object."""
        ...


def operations(
    store: HostingStore,
    roles: Roles | None = None,
    images: KnownImages | None = None,
    objects: Objects | None = None,
    clock: Callable[[], float] = time.time,
) -> Operations:
    """The operations by name; without `roles`, `images` and `objects` all of them exist.

    `clock` gives epoch seconds.
    """

    def create(call: Call) -> dict[str, Any]:
        request = call.params
        rules.check_model(request)
        check_tags(request.get("Tags", ()))
        if roles:
            roles.check(request["ExecutionRoleArn"])
        if images:
            for container in containers_of(request):
                images.check_for_model(container["Image"], call.scope.account)
        if objects:
            for uri, is_prefix in rules.model_data(request):
                _check_data(objects, uri, is_prefix)
        now = round(clock(), 3)
        tags = values_by_key(request.get("Tags", ()))
        kept = {name: value for name, value in request.items() if name != "Tags"}
        model = store.create(
            Resource(MODEL, call.scope, request["ModelName"], now, now, kept, tags=tags)
        )
        return {"ModelArn": model.arn}

    def describe_model(call: Call) -> Mapping[str, Any]:
        return describe(store.get(MODEL, call.scope, call.params["ModelName"]))

    def list_models(call: Call) -> dict[str, Any]:
        page = listing.page(store.all(MODEL, call.scope), call.params)
        return {
            "Models": [
                {"ModelName": each.name, "ModelArn": each.arn, "CreationTime": each.created}
                for each in page.rows
            ],
            "NextToken": page.token,
        }

    def delete(call: Call) -> None:
        store.delete(MODEL, call.scope, call.params["ModelName"])

    return {
        "CreateModel": create,
        "DeleteModel": delete,
        "DescribeModel": describe_model,
        "ListModels": list_models,
    }


def describe(model: Resource) -> Mapping[str, Any]:
    """The answer of DescribeModel (pure)."""
    return {
        "EnableNetworkIsolation": False,
        **model.request,
        "ModelArn": model.arn,
        "CreationTime": model.created,
    }


def _check_data(objects: Objects, uri: S3Uri, is_prefix: bool) -> None:
    """Raise ValidationError where nothing is there."""
    try:
        if not is_prefix:
            objects.stat(uri.bucket, uri.key)
        elif not objects.exists(uri.bucket, uri.key):
            raise ValidationError(words.no_model_data(str(uri)))
    except StoreError as error:
        if error.transient:
            raise ApiError(
                f"The object store does not answer: {error}", code="ServiceUnavailable", status=503
            ) from error
        raise ValidationError(words.no_model_data(str(uri))) from error
