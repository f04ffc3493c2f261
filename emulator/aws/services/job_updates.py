"""What may happen to a training job after it was created: update and delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from emulator.aws.operation import Call, Operations
from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Phase
from emulator.model.record import Job
from emulator.model.workload import WorkloadId
from emulator.resources.training import job_id
from emulator.resources.training.job import with_keep_alive
from emulator.resources.training.words import secondary_status
from emulator.workloads.warm_pools import WithPeriod

_EMPTY = "Invalid UpdateTrainingJobRequest, the request cannot be empty"
_RULES = "ProfilerRuleConfigurations"
# When remote debugging can be switched (API reference).
_DEBUGGABLE = (Phase.DOWNLOADING, Phase.RUNNING)


class Jobs(Protocol):
    """Who runs the jobs and keeps their instances."""

    def delete(self, key: WorkloadId) -> object:
        """Forget a job that has ended; raises ApiError for others and for unknown ones."""
        ...

    def update_keep_alive(self, key: WorkloadId, keep_alive: int, step: WithPeriod) -> object:
        """Keep a job's instances for so many seconds after its end; raises ApiError."""
        ...


class Records(Protocol):
    """What is known of the jobs."""

    def update(self, key: WorkloadId, step: Callable[[Job], Job]) -> Job:
        """Replace a job by what `step` makes of it, in one transaction; raises ApiError."""
        ...


def operations(jobs: Jobs, records: Records, clock: Callable[[], float] = time.time) -> Operations:
    """The operations by name; `clock` gives epoch seconds."""

    def delete(call: Call) -> None:
        jobs.delete(job_id(call.scope, call.params["TrainingJobName"]))

    def update(call: Call) -> dict[str, Any]:
        changes = {name: item for name, item in call.params.items() if name != "TrainingJobName"}
        if not any(changes.values()):
            raise ValidationError(_EMPTY)  # documented
        key = job_id(call.scope, call.params["TrainingJobName"])
        resources = changes.pop("ResourceConfig", None)
        now = round(clock(), 3)

        def refuse(job: Job) -> Job:
            updated(job, changes, now)
            return job

        # All of it or nothing: the instances are somebody else's affair.
        if any(changes.values()):
            records.update(key, refuse)
        if resources is not None:
            jobs.update_keep_alive(key, resources["KeepAlivePeriodInSeconds"], with_keep_alive)
        if any(changes.values()):
            records.update(key, lambda job: updated(job, changes, now))
        return {"TrainingJobArn": key.arn}

    return {"DeleteTrainingJob": delete, "UpdateTrainingJob": update}


def updated(job: Job, changes: Mapping[str, Any], now: float) -> Job:
    """The job with these members of an UpdateTrainingJob; raises ValidationError."""
    if job.life.status.terminal:
        raise ValidationError(
            "The request was rejected because the training job is in status "
            f"{job.life.status.value}."
        )
    if "RemoteDebugConfig" in changes and job.life.phase not in _DEBUGGABLE:
        raise ValidationError(
            "RemoteDebugConfig can be updated only while the secondary status of the training "
            f"job is Downloading or Training; it is {secondary_status(job.life.phase)}."
        )
    request = dict(job.spec.request)
    for name in ("ProfilerConfig", "RemoteDebugConfig"):
        if name in changes:
            request[name] = {**request.get(name, {}), **changes[name]}
    if rules := changes.get(_RULES):
        kept = {rule["RuleConfigurationName"]: rule for rule in request.get(_RULES, ())}
        added = {rule["RuleConfigurationName"]: rule for rule in rules}
        request[_RULES] = list({**kept, **added}.values())
    life = replace(job.life, modified=max(job.life.modified, now))
    return replace(job, spec=replace(job.spec, request=request), life=life)
