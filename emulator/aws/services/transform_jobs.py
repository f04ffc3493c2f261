"""SageMaker's transform jobs: create, describe, list, stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emulator.aws.operation import Call, Operations
from emulator.aws.services import listing
from emulator.aws.services.endpoints import read_sources
from emulator.aws.services.tags import check_tags, values_by_key
from emulator.aws.transforms.jobs import processing_of
from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.scope import Scope
from emulator.resources.transform import deployment_sources
from emulator.resources.transform.job import check
from emulator.workloads.serving.store import MODEL, TRANSFORM, HostingStore, Resource


class Jobs(Protocol):
    """Who runs the jobs."""

    def submit(self, row: Resource) -> None:
        """Keep and begin; raises ApiError."""
        ...

    def stop(self, scope: Scope, name: str) -> None:
        """Raises ValidationError for a job that is unknown or has ended."""
        ...


def operations(
    jobs: Jobs, store: HostingStore, clock: Callable[[], float] = time.time
) -> Operations:
    """The operations by name; `clock` gives epoch seconds."""

    def create(call: Call) -> dict[str, Any]:
        request = {name: value for name, value in call.params.items() if name != "Tags"}
        check(request)
        try:
            processing_of(request)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        check_tags(call.params.get("Tags", ()))
        name = request["TransformJobName"]
        model = store.get(MODEL, call.scope, request["ModelName"]).request
        read_sources(deployment_sources(request, model))
        now = round(clock(), 3)
        if store.find(TRANSFORM, call.scope, name) is not None:
            raise ResourceInUse(
                f"Job name must be unique within an AWS account and region, and a job with this "
                f"name already exists ({call.scope.arn(TRANSFORM, name)})"
            )
        tags = values_by_key(call.params.get("Tags", ()))
        state = {"model": model}  # which may be deleted meanwhile
        row = Resource(TRANSFORM, call.scope, name, now, now, request, "InProgress", state, tags)
        jobs.submit(row)
        return {"TransformJobArn": row.arn}

    def describe_job(call: Call) -> Mapping[str, Any]:
        return describe(store.get(TRANSFORM, call.scope, call.params["TransformJobName"]))

    def list_jobs(call: Call) -> dict[str, Any]:
        page = listing.page(store.all(TRANSFORM, call.scope), call.params)
        return {
            "TransformJobSummaries": [summarize(row) for row in page.rows],
            "NextToken": page.token,
        }

    def stop(call: Call) -> None:
        jobs.stop(call.scope, call.params["TransformJobName"])

    return {
        "CreateTransformJob": create,
        "DescribeTransformJob": describe_job,
        "ListTransformJobs": list_jobs,
        "StopTransformJob": stop,
    }


def describe(row: Resource) -> dict[str, Any]:
    """The answer of DescribeTransformJob (pure)."""
    return {**row.request, **summarize(row), "TransformStartTime": row.state.get("started")}


def summarize(row: Resource) -> dict[str, Any]:
    """One entry of ListTransformJobs (pure)."""
    return {
        "TransformJobName": row.name,
        "TransformJobArn": row.arn,
        "TransformJobStatus": row.status,
        "CreationTime": row.created,
        "LastModifiedTime": row.modified,
        "TransformEndTime": row.state.get("ended"),
        "FailureReason": row.state.get("reason"),
    }
