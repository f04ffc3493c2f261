"""Training jobs in the database: every change is one guarded transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from emulator.database import Database
from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle, Secondary, Status, Transition
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.warm_pool import PoolStatus, WarmPool, keep_alive_of
from emulator.workloads.store.queries import (
    Condition,
    Cursor,
    JobPage,
    JobQuery,
    count_statement,
    excerpt_columns,
    page_statement,
)

MIGRATIONS = tuple(
    files("emulator.workloads.store").joinpath(script).read_text("utf-8")
    for script in ("schema.sql", "warm_pools.sql", "orders.sql", "runtimes.sql")
)
"""Applied in this order; a new one goes to the end."""
NOT_FOUND = "Requested resource not found."
"""What Describe and Stop say of an unknown job, with code ValidationException (seen)."""

_REMEMBERED = 512
"""Jobs whose texts are not read again: enough for those that clients poll."""
_READ_AHEAD = 100
"""Jobs in memory at a time when all are gone through."""


@dataclass(frozen=True)
class Excerpt:
    """Some of what is known of a job."""

    name: str
    status: str
    created: float
    modified: float
    tags: str
    """JSON, value by key."""
    members: Mapping[str, Any]
    """Of the request, None where it has no such member."""


class JobStore:
    """The training jobs of all scopes."""

    def __init__(self, database: Database):
        self._database = database

    def create(
        self, spec: JobSpec, now: float, runtime: str | None = None, runtime_reason: str = ""
    ) -> Job:
        """Keep a new job; raises ResourceInUse when the name is taken."""
        keep_alive = keep_alive_of(spec)
        job = Job(
            spec,
            Lifecycle.begin(now),
            tags={tag["Key"]: tag["Value"] for tag in spec.request.get("Tags", ())},
            warm_pool=WarmPool(keep_alive) if keep_alive else None,
            runtime=runtime,
            runtime_reason=runtime_reason,
        )
        row = (
            spec.scope.account,
            spec.scope.region,
            spec.name,
            job.life.created,
            *_state(job),
        )
        try:
            with self._database.writing() as connection:
                connection.execute(
                    "INSERT INTO training_job"
                    " (account, region, name, created,"
                    " request, life, status, modified, artifacts, tags, warm_pool,"
                    " runtime, runtime_reason)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
        except sqlite3.IntegrityError as error:
            raise ResourceInUse(
                "Training job names must be unique within an AWS account and region, "
                f"and a training job with this name already exists ({spec.arn})"
            ) from error
        return job

    def get(self, scope: Scope, name: str) -> Job | None:
        with self._database.reading() as connection:
            return _find(connection, scope, name)

    def name_in_arn(self, scope: Scope, lowered: str) -> str | None:
        """The name of the job whose ARN ends in this: ARNs are in lower case."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT name FROM training_job WHERE account = ? AND region = ?"
                " AND lower(name) = lower(?)",
                (scope.account, scope.region, lowered),
            ).fetchone()
        return None if row is None else str(row["name"])

    def change(
        self,
        scope: Scope,
        name: str,
        step: Callable[[Lifecycle], Lifecycle],
        artifacts: str | None = None,
    ) -> Job:
        """Take a job one step further, reading and writing in one transaction.

        `artifacts` becomes visible together with that step. Raises ValidationError for an
        unknown job, and IllegalTransition where the job's status does not allow the step.
        """
        return self.update(
            scope,
            name,
            lambda job: replace(job, life=step(job.life), artifacts=artifacts or job.artifacts),
        )

    def update(self, scope: Scope, name: str, step: Callable[[Job], Job]) -> Job:
        """Replace a job by what `step` makes of it, in one transaction.

        Nothing is written if `step` raises or changes nothing. Raises ValidationError for an
        unknown job.
        """
        with self._database.writing() as connection:
            job = _existing(connection, scope, name)
            changed = step(job)
            if changed == job:
                return job
            connection.execute(
                "UPDATE training_job SET request = ?, life = ?, status = ?, modified = ?,"
                " artifacts = ?, tags = ?, warm_pool = ?, runtime = ?, runtime_reason = ?"
                " WHERE account = ? AND region = ? AND name = ?",
                (*_state(changed), scope.account, scope.region, name),
            )
        return changed

    def delete(self, scope: Scope, name: str, check: Callable[[Job], None]) -> Job:
        """Forget a job unless `check` raises; raises ValidationError for an unknown one."""
        with self._database.writing() as connection:
            job = _existing(connection, scope, name)
            check(job)
            connection.execute(
                "DELETE FROM training_job WHERE account = ? AND region = ? AND name = ?",
                (scope.account, scope.region, name),
            )
        return job

    def find(self, scope: Scope, query: JobQuery) -> JobPage:
        """One page of the scope's jobs."""
        with self._database.reading() as connection:
            rows = connection.execute(*page_statement(scope, query)).fetchall()
        page = rows[: query.limit]
        more = len(rows) > query.limit
        return JobPage(
            jobs=tuple(_job(row) for row in page if query.status in (None, Status(row["status"]))),
            next=Cursor(page[-1][query.sort_by], page[-1]["name"]) if more else None,
        )

    def each(self, scope: Scope, conditions: tuple[Condition, ...]) -> Iterator[Job]:
        """All jobs of the scope for which the conditions hold, a few in memory at a time."""
        # Nothing is remembered of them: it would push out the jobs that clients poll.
        for row in self._rows(scope, conditions, "job.*"):
            yield _job(row, _read_spec, _read_life)

    def _rows(
        self, scope: Scope, conditions: tuple[Condition, ...], columns: str
    ) -> Iterator[sqlite3.Row]:
        query = JobQuery(conditions, sort_by="name", descending=False, limit=_READ_AHEAD)
        while True:
            statement = page_statement(scope, query, columns)
            with self._database.reading() as connection:
                rows = connection.execute(*statement).fetchall()
            yield from rows[:_READ_AHEAD]
            if len(rows) <= _READ_AHEAD:
                return
            name = rows[_READ_AHEAD - 1]["name"]
            query = replace(query, after=Cursor(name, name))

    def excerpts(
        self, scope: Scope, conditions: tuple[Condition, ...], members: Sequence[str]
    ) -> Iterator[Excerpt]:
        """The same jobs, with these members of their requests alone: a tenth of the cost."""
        columns = excerpt_columns(members)
        for row in self._rows(scope, conditions, columns):
            yield Excerpt(
                row["name"],
                row["status"],
                row["created"],
                row["modified"],
                row["tags"],
                dict(zip(members, json.loads(row["members"])[2:], strict=True)),
            )

    def count(self, scope: Scope, conditions: Sequence[Condition]) -> int:
        """The number of the scope's jobs for which all conditions hold."""
        with self._database.reading() as connection:
            (number,) = connection.execute(*count_statement(scope, conditions)).fetchone()
        return int(number)

    def unfinished_by_status(self) -> dict[str, int]:
        """How many jobs of all scopes have each SecondaryStatus, of those that have not ended."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT json_extract(life, '$.transitions[#-1].status') AS secondary,"
                " count(*) AS jobs FROM training_job"
                " WHERE status IN ('InProgress', 'Stopping') GROUP BY secondary"
            ).fetchall()
        return {row["secondary"]: row["jobs"] for row in rows}

    def with_open_pools(self) -> list[Job]:
        """The jobs of all scopes whose warm pools are not over, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM training_job WHERE warm_pool IS NOT NULL ORDER BY created"
            ).fetchall()
        jobs = (_job(row) for row in rows)
        return [job for job in jobs if job.warm_pool and not job.warm_pool.over]

    def unfinished_on(self, runtime: str) -> int:
        """The number of jobs of all scopes that have not ended and have that runtime."""
        with self._database.reading() as connection:
            (number,) = connection.execute(
                "SELECT count(*) FROM training_job"
                " WHERE status IN ('InProgress', 'Stopping') AND runtime = ?",
                (runtime,),
            ).fetchone()
        return int(number)

    def unfinished(self) -> list[Job]:
        """The jobs of all scopes that have not ended, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM training_job WHERE status IN ('InProgress', 'Stopping')"
                " ORDER BY created"
            ).fetchall()
        return [_job(row) for row in rows]


def _find(connection: sqlite3.Connection, scope: Scope, name: str) -> Job | None:
    row = connection.execute(
        "SELECT * FROM training_job WHERE account = ? AND region = ? AND name = ?",
        (scope.account, scope.region, name),
    ).fetchone()
    return None if row is None else _job(row)


def _existing(connection: sqlite3.Connection, scope: Scope, name: str) -> Job:
    job = _find(connection, scope, name)
    if job is None:
        raise ValidationError(NOT_FOUND)
    return job


def _read_spec(request: str, account: str, region: str) -> JobSpec:
    return JobSpec.from_request(json.loads(request), Scope(account, region))


def _read_life(text: str) -> Lifecycle:
    stored = json.loads(text)
    stored["status"] = Status(stored["status"])
    for entry in stored["transitions"]:
        entry["status"] = Secondary(entry["status"])
    stored["transitions"] = tuple(Transition(**entry) for entry in stored["transitions"])
    return Lifecycle(**stored)


# Whoever polls asks for the same jobs again and again, and most of them change no more.
_spec = lru_cache(maxsize=_REMEMBERED)(_read_spec)
_life = lru_cache(maxsize=_REMEMBERED)(_read_life)


def _job(
    row: sqlite3.Row,
    spec: Callable[[str, str, str], JobSpec] = _spec,
    life: Callable[[str], Lifecycle] = _life,
) -> Job:
    return Job(
        spec=spec(row["request"], row["account"], row["region"]),
        life=life(row["life"]),
        artifacts=row["artifacts"],
        tags=json.loads(row["tags"]),
        warm_pool=None if row["warm_pool"] is None else _pool(json.loads(row["warm_pool"])),
        runtime=row["runtime"],
        runtime_reason=row["runtime_reason"] or "",
    )


def _state(
    job: Job,
) -> tuple[str, str, str, float, str | None, str, str | None, str | None, str]:
    """request, life, status, modified, artifacts, tags, warm_pool, runtime, runtime_reason"""
    return (
        json.dumps(job.spec.request),
        json.dumps(asdict(job.life)),
        job.life.status.value,
        job.life.modified,
        job.artifacts,
        json.dumps(dict(job.tags)),
        None if job.warm_pool is None else json.dumps(asdict(job.warm_pool)),
        job.runtime,
        job.runtime_reason,
    )


def _pool(stored: dict[str, Any]) -> WarmPool:
    return WarmPool(**{**stored, "status": PoolStatus(stored["status"])})
