"""SageMaker's training jobs: create, describe, list, stop."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from emulator.aws.images import TrainingImages
from emulator.aws.operation import Call, Operations
from emulator.aws.roles import Roles
from emulator.aws.services.describe import describe, summarize
from emulator.aws.services.tags import check_tags
from emulator.aws.services.training_rules import check
from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Status
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.resources.training import TRAINING, job_id, training_job
from emulator.resources.training.saved import refuse_unusable
from emulator.resources.training.words import NOT_FOUND
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Dimensions
from emulator.workloads.run.measuring import dimensions
from emulator.workloads.store.queries import Column, Cursor, JobPage, JobQuery, Term

DEFAULT_PAGE = 10
"""Jobs in a page when MaxResults is not given."""

_ORDERS: Mapping[str, Column] = {"Name": "name", "CreationTime": "created", "Status": "status"}
_FILTERS: Mapping[str, tuple[Column, Literal["contains", "<", ">"]]] = {
    "NameContains": ("name", "contains"),
    "CreationTimeAfter": ("created", ">"),
    "CreationTimeBefore": ("created", "<"),
    "LastModifiedTimeAfter": ("modified", ">"),
    "LastModifiedTimeBefore": ("modified", "<"),
}
_DELETING = "Deleting"
"""A status of the API that no job has here: a deletion is over when it is answered."""


class Jobs(Protocol):
    """Who runs the jobs."""

    def submit(self, spec: WorkloadSpec) -> object:
        """Accept a job; raises ResourceInUse or ValidationError."""
        ...

    def stop(self, key: WorkloadId) -> object:
        """Ask a job to stop; raises ValidationError if it is unknown or has ended."""
        ...


class Records(Protocol):
    """What is known of the jobs."""

    def get(self, key: WorkloadId) -> Job | None: ...

    def find(self, kind: str, scope: Scope, query: JobQuery) -> JobPage: ...


class Metrics(Protocol):
    """What was measured of the jobs."""

    def last(
        self, scope: Scope, namespace: str, dimensions: Dimensions, since: float
    ) -> dict[str, Sample]:
        """The latest sample of every series with these dimensions, by its name."""
        ...


def operations(
    jobs: Jobs,
    records: Records,
    metrics: Metrics | None = None,
    roles: Roles | None = None,
    images: TrainingImages | None = None,
) -> Operations:
    """The operations on training jobs, by name.

    Without `roles` every role exists, without `images` every image.
    """
    final_metrics = metrics_of(metrics)

    def create(call: Call) -> dict[str, Any]:
        check(call.params)
        check_tags(call.params.get("Tags", ()))
        if roles:
            roles.check(call.params["RoleArn"])
        if images and (image := call.params["AlgorithmSpecification"].get("TrainingImage")):
            images.check(image, call.scope.account, call.params["RoleArn"])
        try:
            spec = training_job(call.params, call.scope)
        except ValueError as error:  # an address that is well formed but names no bucket
            raise ValidationError(str(error)) from error
        refuse_unusable(spec)
        jobs.submit(spec)
        return {"TrainingJobArn": spec.arn}

    def describe_job(call: Call) -> dict[str, Any]:
        job = records.get(job_id(call.scope, call.params["TrainingJobName"]))
        if job is None:
            raise ValidationError(NOT_FOUND)
        return describe(job, final_metrics(job))

    def list_jobs(call: Call) -> dict[str, Any]:
        page = records.find(TRAINING.name, call.scope, _query(call.params))
        return {
            "TrainingJobSummaries": [
                summarize(job) for job in page.jobs if _is_listed(job, call.params)
            ],
            "NextToken": None if page.next is None else _token(page.next),
        }

    def stop(call: Call) -> None:
        jobs.stop(job_id(call.scope, call.params["TrainingJobName"]))

    return {
        "CreateTrainingJob": create,
        "DescribeTrainingJob": describe_job,
        "ListTrainingJobs": list_jobs,
        "StopTrainingJob": stop,
    }


def metrics_of(metrics: Metrics | None) -> Callable[[Job], dict[str, Sample]]:
    """What looks up the last value of each metric that a job defines."""

    def last_values(job: Job) -> dict[str, Sample]:
        spec, since = job.spec, job.life.created
        if metrics is None or not spec.metric_definitions:
            return {}
        last = metrics.last(spec.scope, spec.kind.log_group, dimensions(spec), since)
        names = dict.fromkeys(name for name, _ in spec.metric_definitions)
        return {name: last[name] for name in names if name in last}

    return last_values


def _query(params: Any) -> JobQuery:
    """Newest first unless asked otherwise (seen; the documentation says ascending)."""
    status = params.get("StatusEquals")
    sort_by = _ORDERS[params.get("SortBy", "CreationTime")]
    return JobQuery(
        conditions=tuple(
            Term(column, operator, params[name])
            for name, (column, operator) in _FILTERS.items()
            if params.get(name) is not None
        ),
        status=None if status in (None, _DELETING) else Status(status),
        sort_by=sort_by,
        descending=params.get("SortOrder", "Descending") == "Descending",
        limit=params.get("MaxResults", DEFAULT_PAGE),
        after=_cursor(params["NextToken"], sort_by) if params.get("NextToken") else None,
    )


def _is_listed(job: Job, params: Any) -> bool:
    """The filters that, like StatusEquals, apply after a page was taken."""
    if params.get("StatusEquals") == _DELETING:
        return False
    wanted = params.get("WarmPoolStatusEquals")
    if wanted and (job.warm_pool is None or job.warm_pool.status.value != wanted):
        return False
    plan = job.spec.request["ResourceConfig"].get("TrainingPlanArn")
    return bool(params.get("TrainingPlanArnEquals", plan) == plan)


def _token(cursor: Cursor) -> str:
    text = json.dumps([cursor.key, cursor.name])
    return base64.b64encode(text.encode()).decode("ascii")


def _cursor(token: str, sort_by: Column) -> Cursor:
    """Where the last page ended; a token of another order is none of this one's."""
    try:
        key, name = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise ValidationError("Invalid NextToken") from None
    kind = float if sort_by in ("created", "modified") else str
    if not isinstance(key, kind) or not isinstance(name, str):
        raise ValidationError("Invalid NextToken")
    return Cursor(key, name)
