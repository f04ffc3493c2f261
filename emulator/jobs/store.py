"""Training jobs in the database: every change is one guarded transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from emulator.database import Database
from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Lifecycle, Secondary, Status, Transition
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.model.warm_pool import PoolStatus, WarmPool, keep_alive_of

MIGRATIONS = tuple(
    files("emulator.jobs").joinpath(script).read_text("utf-8")
    for script in ("schema.sql", "warm_pools.sql")
)
"""Applied in this order; a new one goes to the end."""
NOT_FOUND = "Requested resource not found."
"""What Describe and Stop say of an unknown job, with code ValidationException (seen)."""

_REMEMBERED = 2048
"""Jobs whose texts are not read again; some kilobytes each."""

_SORT_COLUMNS = {"Name": "name", "CreationTime": "created", "Status": "status"}


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: the last job's sort key and its name."""

    key: str | float
    name: str


@dataclass(frozen=True)
class JobQuery:
    """What ListTrainingJobs asks for; times in epoch seconds, exclusive."""

    name_contains: str = ""
    created_after: float | None = None
    created_before: float | None = None
    modified_after: float | None = None
    modified_before: float | None = None
    status: Status | None = None
    """Applied after the page was taken, as the service does: pages may come out short."""
    sort_by: Literal["Name", "CreationTime", "Status"] = "CreationTime"
    descending: bool = True
    limit: int = 10
    after: Cursor | None = None


@dataclass(frozen=True)
class JobPage:
    """Some jobs, and where the next page starts (None: there is none)."""

    jobs: tuple[Job, ...]
    next: Cursor | None


class JobStore:
    """The training jobs of all scopes."""

    def __init__(self, database: Database):
        self._database = database

    def create(self, spec: JobSpec, now: float) -> Job:
        """Keep a new job; raises ResourceInUse when the name is taken."""
        keep_alive = keep_alive_of(spec)
        job = Job(
            spec,
            Lifecycle.begin(now),
            tags={tag["Key"]: tag["Value"] for tag in spec.request.get("Tags", ())},
            warm_pool=WarmPool(keep_alive) if keep_alive else None,
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
                    " request, life, status, modified, artifacts, tags, warm_pool)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                " artifacts = ?, tags = ?, warm_pool = ?"
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

    def every(self, scope: Scope) -> list[Job]:
        """All jobs of the scope, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM training_job WHERE account = ? AND region = ?"
                " ORDER BY created, name",
                (scope.account, scope.region),
            ).fetchall()
        return [_job(row) for row in rows]

    def with_open_pools(self) -> list[Job]:
        """The jobs of all scopes whose warm pools are not over, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM training_job WHERE warm_pool IS NOT NULL ORDER BY created"
            ).fetchall()
        jobs = (_job(row) for row in rows)
        return [job for job in jobs if job.warm_pool and not job.warm_pool.over]

    def find(self, scope: Scope, query: JobQuery) -> JobPage:
        """One page of the scope's jobs; ties in the order are broken by name."""
        column = _SORT_COLUMNS[query.sort_by]
        direction, beyond = ("DESC", "<") if query.descending else ("ASC", ">")
        terms: dict[str, str | float | None] = {
            "instr(name, ?) > 0": query.name_contains or None,
            "created > ?": query.created_after,
            "created < ?": query.created_before,
            "modified > ?": query.modified_after,
            "modified < ?": query.modified_before,
        }
        given = {term: value for term, value in terms.items() if value is not None}
        where = ["account = ?", "region = ?", *given]
        values: list[str | float | int] = [scope.account, scope.region, *given.values()]
        if query.after:
            where.append(f"({column}, name) {beyond} (?, ?)")
            values += [query.after.key, query.after.name]
        order = f"ORDER BY {column} {direction}, name {direction}"
        # Only names from this file are formatted in; every value is bound. The inner query
        # finds the page in an index alone; whole rows are read of that page only.
        statement = (
            "SELECT job.* FROM (SELECT account, region, name FROM training_job"  # noqa: S608
            f" WHERE {' AND '.join(where)} {order} LIMIT ?)"
            f" JOIN training_job AS job USING (account, region, name) {order}"
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement, [*values, query.limit + 1]).fetchall()
        page = rows[: query.limit]
        more = len(rows) > query.limit
        return JobPage(
            jobs=tuple(_job(row) for row in page if query.status in (None, Status(row["status"]))),
            next=Cursor(page[-1][column], page[-1]["name"]) if more else None,
        )

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


def _job(row: sqlite3.Row) -> Job:
    return Job(
        spec=_spec(row["request"], row["account"], row["region"]),
        life=_life(row["life"]),
        artifacts=row["artifacts"],
        tags=json.loads(row["tags"]),
        warm_pool=None if row["warm_pool"] is None else _pool(json.loads(row["warm_pool"])),
    )


def _state(job: Job) -> tuple[str, str, str, float, str | None, str, str | None]:
    """request, life, status, modified, artifacts, tags, warm_pool"""
    return (
        json.dumps(job.spec.request),
        json.dumps(asdict(job.life)),
        job.life.status.value,
        job.life.modified,
        job.artifacts,
        json.dumps(dict(job.tags)),
        None if job.warm_pool is None else json.dumps(asdict(job.warm_pool)),
    )


# Whoever polls asks for the same jobs again and again, and most of them change no more.
@lru_cache(maxsize=_REMEMBERED)
def _spec(request: str, account: str, region: str) -> JobSpec:
    return JobSpec.from_request(json.loads(request), Scope(account, region))


@lru_cache(maxsize=_REMEMBERED)
def _life(text: str) -> Lifecycle:
    stored = json.loads(text)
    transitions = tuple(
        Transition(**{**entry, "status": Secondary(entry["status"])})
        for entry in stored["transitions"]
    )
    return Lifecycle(**{**stored, "status": Status(stored["status"]), "transitions": transitions})


def _pool(stored: dict[str, Any]) -> WarmPool:
    return WarmPool(**{**stored, "status": PoolStatus(stored["status"])})
