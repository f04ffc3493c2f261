"""SageMaker's endpoint configurations: create, describe, list, delete. None ever changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.aws.roles import Roles
from emulator.aws.services import listing
from emulator.aws.services.tags import check_tags, values_by_key
from emulator.resources.hosting import rules
from emulator.resources.hosting.deployment import models_of
from emulator.workloads.serving.store import CONFIG, MODEL, HostingStore, Resource


def operations(
    store: HostingStore,
    roles: Roles | None = None,
    clock: Callable[[], float] = time.time,
) -> Operations:
    """The operations by name; without `roles` every role exists."""

    def create(call: Call) -> dict[str, Any]:
        request = call.params
        rules.check_config(request)
        check_tags(request.get("Tags", ()))
        if roles and "ExecutionRoleArn" in request:
            roles.check(request["ExecutionRoleArn"])
        for name in models_of(request):
            store.get(MODEL, call.scope, name)
        now = round(clock(), 3)
        tags = values_by_key(request.get("Tags", ()))
        kept = {name: value for name, value in request.items() if name != "Tags"}
        config = store.create(
            Resource(CONFIG, call.scope, request["EndpointConfigName"], now, now, kept, tags=tags)
        )
        return {"EndpointConfigArn": config.arn}

    def describe_config(call: Call) -> Mapping[str, Any]:
        return describe(store.get(CONFIG, call.scope, call.params["EndpointConfigName"]))

    def list_configs(call: Call) -> dict[str, Any]:
        page = listing.page(store.all(CONFIG, call.scope), call.params)
        return {
            "EndpointConfigs": [
                {
                    "EndpointConfigName": each.name,
                    "EndpointConfigArn": each.arn,
                    "CreationTime": each.created,
                }
                for each in page.rows
            ],
            "NextToken": page.token,
        }

    def delete(call: Call) -> None:
        store.delete(CONFIG, call.scope, call.params["EndpointConfigName"])

    return {
        "CreateEndpointConfig": create,
        "DeleteEndpointConfig": delete,
        "DescribeEndpointConfig": describe_config,
        "ListEndpointConfigs": list_configs,
    }


def describe(config: Resource) -> Mapping[str, Any]:
    """The answer of DescribeEndpointConfig, with the weights that are defaults (pure)."""
    filled = {
        member: [
            {"InitialVariantWeight": 1.0, **variant} if "ModelName" in variant else variant
            for variant in config.request[member]
        ]
        for member in ("ProductionVariants", "ShadowProductionVariants")
        if member in config.request
    }
    return {
        "EnableNetworkIsolation": False,
        **config.request,
        **filled,
        "EndpointConfigArn": config.arn,
        "CreationTime": config.created,
    }
