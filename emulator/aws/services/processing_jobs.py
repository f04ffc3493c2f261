"""SageMaker's processing jobs: create, describe, list, stop, delete."""

from __future__ import annotations

from typing import Any, Protocol

from emulator.aws.images import KnownImages
from emulator.aws.operation import Call, Operations
from emulator.aws.roles import Roles
from emulator.aws.services import listing
from emulator.aws.services.processing_rules import check
from emulator.aws.services.tags import check_tags
from emulator.model.errors import ValidationError
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadId, WorkloadSpec
from emulator.resources.processing import PROCESSING, job_id, processing_job
from emulator.resources.processing.config_files import with_defaults
from emulator.resources.processing.words import not_found
from emulator.workloads.store.queries import JobPage, JobQuery


class Jobs(Protocol):
    """Who runs the jobs."""

    def submit(self, spec: WorkloadSpec) -> object:
        """Accept a job; raises ResourceInUse or ValidationError."""
        ...

    def stop(self, key: WorkloadId) -> object:
        """Ask a job to stop; raises ValidationError if it is unknown or has ended."""
        ...

    def delete(self, key: WorkloadId) -> object:
        """Forget a job that has ended; raises ApiError for others and for unknown ones."""
        ...


class Records(Protocol):
    """What is known of the jobs."""

    def get(self, key: WorkloadId) -> Job | None: ...

    def find(self, kind: str, scope: Scope, query: JobQuery) -> JobPage: ...


def operations(
    jobs: Jobs,
    records: Records,
    roles: Roles | None = None,
    images: KnownImages | None = None,
) -> Operations:
    """The operations on processing jobs, by name.

    Without `roles` every role exists, without `images` every image.
    """

    def create(call: Call) -> dict[str, Any]:
        check(call.params)
        check_tags(call.params.get("Tags", ()))
        role = call.params["RoleArn"]
        if roles:
            roles.check(role)
        if images:
            image = call.params["AppSpecification"]["ImageUri"]
            images.check(image, call.scope.account, role, "processing")
        try:
            spec = processing_job(call.params, call.scope)
        except ValueError as error:  # an address that is well formed but names no bucket
            raise ValidationError(str(error)) from error
        jobs.submit(spec)
        return {"ProcessingJobArn": spec.arn}

    def describe_job(call: Call) -> dict[str, Any]:
        name = call.params["ProcessingJobName"]
        job = records.get(job_id(call.scope, name))
        if job is None:
            raise ValidationError(not_found(name))
        return describe(job)

    def list_jobs(call: Call) -> dict[str, Any]:
        page = records.find(PROCESSING.name, call.scope, listing.query(call.params))
        return {
            "ProcessingJobSummaries": [summarize(job) for job in page.jobs],
            "NextToken": listing.token(page.next),
        }

    def stop(call: Call) -> None:
        jobs.stop(job_id(call.scope, call.params["ProcessingJobName"]))

    def delete(call: Call) -> None:
        jobs.delete(job_id(call.scope, call.params["ProcessingJobName"]))

    return {
        "CreateProcessingJob": create,
        "DeleteProcessingJob": delete,
        "DescribeProcessingJob": describe_job,
        "ListProcessingJobs": list_jobs,
        "StopProcessingJob": stop,
    }


def describe(job: Job) -> dict[str, Any]:
    """The answer of DescribeProcessingJob (pure).

    Members of the request that the emulator does not act on are echoed as they came; those
    that Describe does not have (Tags) fall out when the answer is written.
    """
    request = job.spec.request
    filled = with_defaults(request)
    optional = ("ProcessingInputs", "ProcessingOutputConfig")
    return {
        **filled,
        **{name: None for name in optional if name not in request},
        **summarize(job),
        "ProcessingStartTime": job.life.started,
    }


def summarize(job: Job) -> dict[str, Any]:
    """One entry of ListProcessingJobs (pure)."""
    return {
        "ProcessingJobName": job.spec.name,
        "ProcessingJobArn": job.spec.arn,
        "ProcessingJobStatus": job.life.status.value,
        "CreationTime": job.life.created,
        "LastModifiedTime": job.life.modified,
        "ProcessingEndTime": job.life.ended,
        "FailureReason": job.life.failure_reason,
        "ExitMessage": job.life.exit_message,
    }
