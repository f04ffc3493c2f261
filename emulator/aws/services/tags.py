"""Tags of SageMaker's resources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from emulator.aws.operation import Call, Operations
from emulator.model.errors import ApiError, ValidationError
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId

LIMIT = 50
"""Tags of one resource (API reference)."""
NOT_FOUND = "Requested resource not found."

_ARN = re.compile(r"arn:[^:]*:sagemaker:(?P<region>[^:]*):(?P<account>\d{12}):(?P<resource>.+)")


class Records(Protocol):
    """The workloads, as far as their tags are concerned."""

    def name_in_arn(self, kind: str, scope: Scope, lowered: str) -> str | None:
        """The name of the job whose ARN ends in this; None if there is none."""
        ...

    def get(self, key: WorkloadId) -> Job | None: ...

    def update(self, key: WorkloadId, step: Callable[[Job], Job]) -> Job:
        """Replace a job by what `step` makes of it, in one transaction."""
        ...


def operations(records: Records) -> Operations:
    """The operations on tags, by name."""

    def add_tags(call: Call) -> dict[str, Any]:
        added = call.params["Tags"]
        check_tags(added)

        def step(job: Job) -> Job:
            tags = {**job.tags, **values_by_key(added)}
            if len(tags) > LIMIT:
                raise _too_many(job, len(tags))
            return replace(job, tags=tags)

        records.update(_meant(records, call), step)
        return {"Tags": added}  # what was sent comes back (seen)

    def list_tags(call: Call) -> dict[str, Any]:
        job = records.get(_meant(records, call))
        if job is None:
            raise ValidationError(NOT_FOUND)
        # A page holds at least 50 tags, all that a resource can have: nothing ever follows.
        if call.params.get("NextToken"):
            raise ValidationError("Invalid NextToken")
        return {"Tags": [{"Key": key, "Value": value} for key, value in job.tags.items()]}

    def delete_tags(call: Call) -> dict[str, Any]:
        gone = set(call.params["TagKeys"])

        def step(job: Job) -> Job:
            return replace(job, tags={k: v for k, v in job.tags.items() if k not in gone})

        records.update(_meant(records, call), step)
        return {}

    return {"AddTags": add_tags, "ListTags": list_tags, "DeleteTags": delete_tags}


def check_tags(tags: Iterable[Mapping[str, str]]) -> None:
    """Raise ValidationError for tags that no resource can have.

    Each key once, and none of AWS's own (tagging rules of the API reference).
    """
    keys = [tag["Key"] for tag in tags]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValidationError(f"Duplicate tag keys found: {', '.join(twice)}. Keys must be unique.")
    for key in keys:
        if key.lower().startswith("aws:"):
            raise ValidationError(
                f"The tag key {key} is not allowed: aws: prefixed tag keys are reserved for AWS."
            )


def values_by_key(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Tags as they are sent, as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def _meant(records: Records, call: Call) -> WorkloadId:
    """What ResourceArn means; raises ValidationError."""
    arn = _ARN.fullmatch(call.params["ResourceArn"])
    if arn is None:
        raise ValidationError(f"Invalid ARN: {call.params['ResourceArn']}")
    if arn["region"] != call.scope.region:  # seen
        raise ValidationError(f"ARN should be scoped to correct region: {call.scope.region}")
    if arn["account"] != call.scope.account:
        raise ApiError(
            f"User is not authorized to perform this action on resource: {arn[0]}",
            code="AccessDeniedException",
        )
    kind, _, lowered = arn["resource"].partition("/")
    name = records.name_in_arn(kind, call.scope, lowered)
    if name is None:
        raise ValidationError(NOT_FOUND)
    return WorkloadId(kind, call.scope, name)


def _too_many(job: Job, count: int) -> ApiError:
    return ApiError(
        f"The {job.spec.label} would have {count} tags; a resource has at most {LIMIT}.",
        code="ResourceLimitExceeded",
    )
