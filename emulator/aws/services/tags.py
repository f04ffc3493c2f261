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
from emulator.workloads.serving.store import NOUNS, HostingStore

LIMIT = 50
"""Tags of one resource (API reference)."""
NOT_FOUND = "Requested resource not found."

_ARN = re.compile(r"arn:[^:]*:sagemaker:(?P<region>[^:]*):(?P<account>\d{12}):(?P<resource>.+)")


Tags = Mapping[str, str]
"""Values by key."""


class Tagged(Protocol):
    """Resources of some kinds, as far as their tags are concerned.

    A kind is the word in ARNs; `lowered` is the name as ARNs have it, in lower case.
    """

    def tags(self, kind: str, scope: Scope, lowered: str) -> Tags | None:
        """None where there is no such resource."""
        ...

    def retag(
        self, kind: str, scope: Scope, lowered: str, step: Callable[[str, Tags], Tags]
    ) -> None:
        """Replace its tags by what `step` makes of them and its label, in one transaction.

        Raises ValidationError where there is no such resource.
        """
        ...


class Records(Protocol):
    """The jobs."""

    def name_in_arn(self, kind: str, scope: Scope, lowered: str) -> str | None:
        """The name of the job whose ARN ends in this; None if there is none."""
        ...

    def get(self, key: WorkloadId) -> Job | None: ...

    def update(self, key: WorkloadId, step: Callable[[Job], Job]) -> Job:
        """Replace a job by what `step` makes of it, in one transaction."""
        ...


class TaggedJobs:
    """Jobs of all kinds."""

    def __init__(self, records: Records):
        self._records = records

    def tags(self, kind: str, scope: Scope, lowered: str) -> Tags | None:
        name = self._records.name_in_arn(kind, scope, lowered)
        job = self._records.get(WorkloadId(kind, scope, name)) if name is not None else None
        return None if job is None else job.tags

    def retag(
        self, kind: str, scope: Scope, lowered: str, step: Callable[[str, Tags], Tags]
    ) -> None:
        name = self._records.name_in_arn(kind, scope, lowered)
        if name is None:
            raise ValidationError(NOT_FOUND)
        self._records.update(
            WorkloadId(kind, scope, name),
            lambda job: replace(job, tags=step(job.spec.label, job.tags)),
        )


class TaggedHosting:
    """Models, endpoint configurations, endpoints and inference components."""

    def __init__(self, store: HostingStore):
        self._store = store

    def tags(self, kind: str, scope: Scope, lowered: str) -> Tags | None:
        name = self._store.name_in_arn(kind, scope, lowered)
        found = self._store.find(kind, scope, name) if name is not None else None
        return None if found is None else found.tags

    def retag(
        self, kind: str, scope: Scope, lowered: str, step: Callable[[str, Tags], Tags]
    ) -> None:
        name = self._store.name_in_arn(kind, scope, lowered)
        if name is None:
            raise ValidationError(NOT_FOUND)
        label = f"{NOUNS[kind]} {name}"
        self._store.update(
            kind, scope, name, lambda found: replace(found, tags=step(label, found.tags))
        )


def operations(records: Records, hosting: HostingStore | None = None) -> Operations:
    """The operations on tags, by name."""
    jobs = TaggedJobs(records)
    others: Mapping[str, Tagged] = (
        {} if hosting is None else dict.fromkeys(NOUNS, TaggedHosting(hosting))
    )

    def add_tags(call: Call) -> dict[str, Any]:
        added = call.params["Tags"]
        check_tags(added)

        def step(label: str, tags: Tags) -> Tags:
            more = {**tags, **values_by_key(added)}
            if len(more) > LIMIT:
                raise _too_many(label, len(more))
            return more

        kind, lowered = _meant(call)
        others.get(kind, jobs).retag(kind, call.scope, lowered, step)
        return {"Tags": added}  # what was sent comes back (seen)

    def list_tags(call: Call) -> dict[str, Any]:
        kind, lowered = _meant(call)
        tags = others.get(kind, jobs).tags(kind, call.scope, lowered)
        if tags is None:
            raise ValidationError(NOT_FOUND)
        # A page holds at least 50 tags, all that a resource can have: nothing ever follows.
        if call.params.get("NextToken"):
            raise ValidationError("Invalid NextToken")
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def delete_tags(call: Call) -> dict[str, Any]:
        gone = set(call.params["TagKeys"])

        def step(_: str, tags: Tags) -> Tags:
            return {key: value for key, value in tags.items() if key not in gone}

        kind, lowered = _meant(call)
        others.get(kind, jobs).retag(kind, call.scope, lowered, step)
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


def _meant(call: Call) -> tuple[str, str]:
    """What ResourceArn means, as kind and name in lower case; raises ApiError."""
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
    return kind, lowered


def _too_many(label: str, count: int) -> ApiError:
    return ApiError(
        f"The {label} would have {count} tags; a resource has at most {LIMIT}.",
        code="ResourceLimitExceeded",
    )
