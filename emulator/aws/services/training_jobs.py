"""SageMaker's training jobs: create, describe, list, stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from emulator.aws.images import KnownImages
from emulator.aws.operation import Call, Operations
from emulator.aws.roles import Roles
from emulator.aws.services import listing
from emulator.aws.services.describe import describe, summarize
from emulator.aws.services.tags import check_tags
from emulator.aws.services.training_rules import check
from emulator.model.errors import ValidationError
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.resources.training import TRAINING, job_id, training_job
from emulator.resources.training.saved import refuse_unusable
from emulator.resources.training.words import NOT_FOUND
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Dimensions
from emulator.workloads.run.measuring import dimensions
from emulator.workloads.store.queries import JobPage, JobQuery

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
    images: KnownImages | None = None,
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
        page = records.find(TRAINING.name, call.scope, listing.query(call.params))
        return {
            "TrainingJobSummaries": [
                summarize(job) for job in page.jobs if _is_listed(job, call.params)
            ],
            "NextToken": listing.token(page.next),
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


def _is_listed(job: Job, params: Any) -> bool:
    """The filters that, like StatusEquals, apply after a page was taken."""
    if params.get("StatusEquals") == _DELETING:
        return False
    wanted = params.get("WarmPoolStatusEquals")
    if wanted and (job.warm_pool is None or job.warm_pool.status.value != wanted):
        return False
    plan = job.spec.request["ResourceConfig"].get("TrainingPlanArn")
    return bool(params.get("TrainingPlanArnEquals", plan) == plan)
