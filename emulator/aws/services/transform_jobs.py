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
from emulator.data.objectstore.failures import StoreError
from emulator.model.errors import ApiError, ValidationError
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri
from emulator.resources.transform import deployment_sources
from emulator.resources.transform.job import check, check_model
from emulator.workloads.serving.store import MODEL, TRANSFORM, HostingStore, Resource


class Objects(Protocol):
    """Where the input is, and where the output goes."""

    def bucket_exists(self, bucket: str) -> bool:
        """Raises StoreError."""
        ...

    def exists(self, bucket: str, prefix: str) -> bool:
        """Is there any key that starts with `prefix`? Raises StoreError."""
        ...


class Jobs(Protocol):
    """Who runs the jobs."""

    def submit(self, row: Resource) -> None:
        """Keep and begin; raises ApiError."""
        ...

    def stop(self, scope: Scope, name: str) -> None:
        """Raises ValidationError for a job that is unknown or has ended."""
        ...


def operations(
    jobs: Jobs,
    store: HostingStore,
    objects: Objects | None = None,
    clock: Callable[[], float] = time.time,
) -> Operations:
    """The operations by name; without `objects` all of them exist. `clock` gives epoch seconds."""

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
        check_model(model)
        deployment = read_sources(deployment_sources(request, model))
        if objects:
            _check_data(objects, request, call.scope.region, deployment.variants[0].role_arn)
        now = round(clock(), 3)
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
    """The answer of DescribeTransformJob (pure), with the defaults that the service shows.

    Those are of the example in the AWS CLI's reference.
    """
    request = row.request
    return {
        **request,
        "TransformInput": {
            "CompressionType": "None",
            "SplitType": "None",
            **request["TransformInput"],
        },
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": "", **request["TransformOutput"]},
        "DataProcessing": {
            "InputFilter": "$",
            "OutputFilter": "$",
            "JoinSource": "None",
            **request.get("DataProcessing", {}),
        },
        **summarize(row),
        "TransformStartTime": row.state.get("started"),
    }


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


def _check_data(objects: Objects, request: Mapping[str, Any], region: str, role: str) -> None:
    """Raise ValidationError where there is no input, or no bucket for the output.

    The words are those of training jobs.
    """
    uri = request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    given = S3Uri.parse(uri)
    if not _holds(lambda: objects.exists(given.bucket, given.key)):
        raise ValidationError(
            f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure '
            f"that the bucket exists in the selected region ({region}), that objects exist under "
            f'that S3 prefix, and that the role "{role}" has "s3:ListBucket" permissions on bucket '
            f'"{given.bucket}".'
        )
    uri = request["TransformOutput"]["S3OutputPath"]
    bucket = S3Uri.parse(uri).bucket
    if not _holds(lambda: objects.bucket_exists(bucket)):
        raise ValidationError(
            f'The S3 output path "{uri}" cannot be used. Please ensure that the bucket exists in '
            f'the selected region ({region}), and that the role "{role}" has "s3:PutObject" '
            f'permissions on bucket "{bucket}".'
        )


def _holds(question: Callable[[], bool]) -> bool:
    """Raises ApiError (503) when the object store cannot be asked."""
    try:
        return question()
    except StoreError as error:
        if error.transient:
            raise ApiError(str(error), code="ServiceUnavailable", status=503) from error
        return False
