"""What is known of jobs: lists of them, one of them, and what can be done with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Phase, Status
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.workload import Kind, WorkloadId
from emulator.placement.leases import Lease
from emulator.resources import KINDS
from emulator.web import models
from emulator.web.logs import Logs, Place
from emulator.web.machine import instance_types
from emulator.web.sources import Sources
from emulator.workloads.run.measuring import dimensions
from emulator.workloads.store.queries import Overview

POINTS = 50_000
"""Metric values in one answer."""
_NAME_LENGTH = 63
_TRACEBACK = "Traceback (most recent call last):"
_TRACEBACK_LINES = 400
_TRANSPORT_LINES = 5_000
_TRANSPORT_BYTES = 1 << 20
_TRANSPORT_STEP = 1 << 15
"""How NCCL talks is told soon after the start."""
_BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Asked:
    """Which job a URL names."""

    kind: str
    name: str
    account: str = ""
    region: str = ""


class Jobs:
    """Questions about jobs of all kinds and scopes."""

    def __init__(self, sources: Sources):
        self._sources = sources
        self.logs = Logs(sources.logs)
        self._told_transports = lru_cache(maxsize=64)(self._read_transports)

    def key(self, asked: Asked) -> WorkloadId:
        """Which job is meant; the scope is that of the settings where it is not told."""
        settings = self._sources.settings
        scope = Scope(asked.account or settings.account, asked.region or settings.region)
        return WorkloadId(asked.kind, scope, asked.name)

    def page(self, query: Overview) -> models.JobList:
        """A page of jobs."""
        total, jobs = self._sources.records.overview(query)
        leases = {lease.job: lease for lease in self._sources.capacity.leases()}
        waits = {one.job: one.reason for one in self._sources.capacity.line()}
        idle = self._sources.watch.marked()
        return models.JobList(
            total=total,
            offset=query.offset,
            jobs=[self._summary(job, leases, waits, idle) for job in jobs],
        )

    def find(self, key: WorkloadId) -> Job:
        """Raises ValidationError for an unknown job or kind."""
        if key.kind not in _BY_NAME:
            raise ValidationError(f"There are no {key.kind}s.")
        return self._sources.supervisor.job(key)

    def one(self, key: WorkloadId) -> models.JobDetail:
        """Raises ValidationError for an unknown job."""
        job, sources = self.find(key), self._sources
        spec, life = job.spec, job.life
        leases = {lease.job: lease for lease in sources.capacity.leases()}
        waits = {one.job: one.reason for one in sources.capacity.line()}
        summary = self._summary(job, leases, waits, sources.watch.marked())
        lease = None if life.status.terminal else leases.get(spec.arn)
        return models.JobDetail(
            **summary.model_dump(),
            arn=spec.arn,
            role=spec.role_arn,
            image=spec.image,
            runtime_reason=job.runtime_reason,
            spot=spec.spot,
            attempts=life.attempts,
            phases=[
                models.Phase(
                    name=spec.kind.phase_name(entry.status),
                    message=entry.message,
                    started=entry.started,
                    ended=entry.ended,
                )
                for entry in life.transitions
            ],
            failure_reason=life.failure_reason,
            exit_message=life.exit_message,
            gpu_uuids={host: list(uuids) for host, uuids in lease.held.items()} if lease else {},
            transports=self._transports(job),
            tags=dict(job.tags),
            hyperparameters=dict(spec.request.get("HyperParameters", {})),
            request=dict(spec.request),
            streams=self.streams(job),
            points=sources.metrics.newest(),
        )

    def _summary(
        self,
        job: Job,
        leases: Mapping[str, Lease],
        waits: Mapping[str, str],
        idle: Mapping[str, float],
    ) -> models.JobSummary:
        spec, life = job.spec, job.life
        ended = life.status.terminal
        last = life.transitions[-1]
        lease = None if ended else leases.get(spec.arn)
        return models.JobSummary(
            kind=spec.kind.name,
            name=spec.name,
            account=spec.scope.account,
            region=spec.scope.region,
            status=life.status.value,
            phase=spec.kind.phase_name(life.phase),
            message=last.message,
            created=life.created,
            started=life.started,
            ended=last.started if ended else None,
            modified=life.modified,
            instance_type=instance_types(job),
            instances=len(spec.hosts),
            gpus=len(lease.holders) if lease else 0,
            runtime=job.runtime,
            metrics=self._last_values(job),
            reason=_reason(job, waits),
            gpus_idle_since=None if ended else idle.get(spec.arn),
        )

    def _last_values(self, job: Job) -> dict[str, float]:
        spec = job.spec
        if not spec.metric_definitions or job.life.started is None:
            return {}
        found = self._sources.metrics.last(
            spec.scope, spec.kind.log_group, dimensions(spec), job.life.created
        )
        return {name: sample.maximum for name, sample in found.items()}

    # Metrics

    def points(self, job: Job, after: int = 0, host: str | None = None) -> models.MetricPoints:
        """Values in the job's output; with `host`, what that instance uses of the machine."""
        spec = job.spec
        which = dimensions(spec) if host is None else (("Host", f"{spec.name}/{host}"),)
        # Asked first: what comes in between is behind the cursor.
        newest = self._sources.metrics.newest()
        found = self._sources.metrics.points(spec.scope, spec.kind.log_group, which, after, POINTS)
        more = len(found) == POINTS
        series: dict[tuple[str, str | None], models.MetricSeries] = {}
        for point in found:
            name = (point.name, point.source)
            if name not in series:
                series[name] = models.MetricSeries(
                    name=point.name, instance=point.source, at=[], values=[]
                )
            series[name].at.append(point.at)
            series[name].values.append(point.value)
        return models.MetricPoints(
            # Other jobs' values are not gone through again.
            cursor=found[-1].number if more else max([after, newest, *(p.number for p in found)]),
            more=more,
            series=list(series.values()),
        )

    # Logs

    def place(self, job: Job) -> Place:
        """Where the job's log streams are."""
        return Place(job.spec.scope, job.spec.kind.log_group, f"{job.spec.name}/")

    def streams(self, job: Job) -> list[models.LogStream]:
        """The job's log streams, in the order of its instances."""
        found = [
            one.model_copy(update={"instance": one.instance.rpartition("-")[0]})
            for one in self.logs.streams(self.place(job))
        ]
        return sorted(found, key=lambda one: (len(one.instance), one.instance, one.stream))

    def traceback(self, job: Job) -> str:
        """The last traceback of Python in the job's logs; "" where there is none."""
        for stream in self.streams(job):
            lines = self.logs.lines(self.place(job), stream.stream, limit=_TRACEBACK_LINES).lines
            texts = [line.text for line in lines]
            begins = [number for number, text in enumerate(texts) if _TRACEBACK in text]
            if begins:
                return "\n".join(whole_traceback(texts[begins[-1] :]))
        return ""

    def _transports(self, job: Job) -> list[str]:
        if len(job.spec.hosts) < 2:
            return []
        for stream in self.streams(job)[:1]:
            # A page asks every second: its beginning is read again while that grows.
            grown = min(stream.size, _TRANSPORT_BYTES) // _TRANSPORT_STEP
            return list(self._told_transports(self.place(job), stream.stream, grown))
        return []

    def _read_transports(self, place: Place, stream: str, _: int) -> tuple[str, ...]:
        page = self.logs.lines(place, stream, after=0, limit=_TRANSPORT_LINES)
        return tuple(line.text for line in page.lines if line.text.startswith("NCCL: "))

    # Actions

    def stop(self, key: WorkloadId, *, now: bool = False) -> models.Done:
        """Stop a job; `now` gives its instances no time. Raises ValidationError."""
        job = self.find(key)
        if not (now and job.life.status is Status.STOPPING):
            self._sources.supervisor.stop(key)
        if now and not self.find(key).life.status.terminal:
            self._sources.supervisor.kill(key)
        return self._done(key)

    def move_first(self, key: WorkloadId) -> models.Done:
        """Let a job start before all others that wait. Raises ValidationError."""
        self.find(key)
        self._sources.supervisor.move_first(key)
        return self._done(key)

    def submit_again(self, key: WorkloadId, wish: models.Resubmission) -> models.Done:
        """Run a job once more under another name. Raises ApiError as its Create operation does."""
        job = self.find(key)
        kind = job.spec.kind
        request: dict[str, Any] = {**job.spec.request, kind.dimension: wish.name}
        if wish.hyperparameters is not None:
            request["HyperParameters"] = wish.hyperparameters
        self._sources.create(kind, key.scope, request)
        return self._done(WorkloadId(kind.name, key.scope, wish.name))

    def _done(self, key: WorkloadId) -> models.Done:
        return models.Done(name=key.name, status=self.find(key).life.status.value)


def kind_named(name: str) -> Kind:
    """Raises ValidationError."""
    if name not in _BY_NAME:
        raise ValidationError(f"There are no {name}s.")
    return _BY_NAME[name]


def next_name(name: str) -> str:
    """A name for the job that runs once more: `train-7` becomes `train-8`."""
    counted = re.fullmatch(r"(.*?-)(\d{1,6})", name)
    proposed = f"{counted[1]}{int(counted[2]) + 1}" if counted else f"{name}-2"
    if len(proposed) <= _NAME_LENGTH:
        return proposed
    stem, _, number = proposed.rpartition("-")
    return f"{stem[: _NAME_LENGTH - 1 - len(number)]}-{number}"


def _reason(job: Job, waits: Mapping[str, str]) -> str:
    """Why the job waits or failed."""
    life = job.life
    if life.failure_reason:
        return life.failure_reason
    if life.phase in (Phase.STARTING, Phase.PENDING) and not life.status.terminal:
        return waits.get(job.spec.arn) or life.transitions[-1].message
    return ""


def whole_traceback(lines: list[str]) -> list[str]:
    """Its lines up to the exception's own, which is the first that is not indented."""
    for number, text in enumerate(lines[1:], start=1):
        if text and not text.startswith((" ", "#011")):
            return lines[: number + 1]
    return lines
