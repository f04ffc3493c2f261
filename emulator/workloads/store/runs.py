"""Workloads in the database: every change is one guarded transaction."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from emulator.database import Database
from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.lifecycle import Lifecycle, Phase, Status, Transition
from emulator.model.record import Job
from emulator.model.run_record import RunRecord
from emulator.model.scope import Scope
from emulator.model.warm_pool import PoolStatus, WarmPool
from emulator.model.workload import Kind, WorkloadId, WorkloadSpec
from emulator.workloads.store.queries import (
    Condition,
    Cursor,
    JobPage,
    JobQuery,
    Overview,
    count_statement,
    excerpt_columns,
    overview_statements,
    page_statement,
)

MIGRATIONS = tuple(
    files("emulator.workloads.store").joinpath(script).read_text("utf-8")
    for script in ("schema.sql", "warm_pools.sql", "orders.sql", "runtimes.sql", "workloads.sql")
)
"""Applied in this order; a new one goes to the end."""
_log = logging.getLogger(__name__)
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
    """The workloads of all kinds and scopes that run to their end."""

    def __init__(self, database: Database, kinds: Iterable[Kind]):
        """`kinds` are those whose requests can be read."""
        self._database = database
        self._kinds = {kind.name: kind for kind in kinds}
        # Whoever polls asks for the same jobs again and again, and most of them change no more.
        self._spec = lru_cache(maxsize=_REMEMBERED)(self._read_spec)

    def create(
        self, spec: WorkloadSpec, now: float, runtime: str | None = None, runtime_reason: str = ""
    ) -> Job:
        """Keep a new job; raises ResourceInUse when the name is taken."""
        job = Job(
            spec,
            Lifecycle.begin(now, spec.words.starting),
            tags=spec.tags,
            warm_pool=WarmPool(spec.keep_alive) if spec.keep_alive else None,
            runtime=runtime,
            runtime_reason=runtime_reason,
        )
        row = (
            *_columns(spec.id),
            job.life.created,
            *_state(job),
        )
        try:
            with self._database.writing() as connection:
                connection.execute(
                    "INSERT INTO workload"
                    " (kind, account, region, name, created,"
                    " request, life, status, modified, artifacts, tags, warm_pool,"
                    " runtime, runtime_reason, run)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
        except sqlite3.IntegrityError as error:
            noun = spec.kind.noun
            raise ResourceInUse(
                f"{noun.capitalize()} names must be unique within an AWS account and region, "
                f"and a {noun} with this name already exists ({spec.arn})"
            ) from error
        return job

    def get(self, key: WorkloadId) -> Job | None:
        with self._database.reading() as connection:
            return self._find(connection, key)

    def not_found(self, key: WorkloadId) -> str:
        """What the service says where there is no such job."""
        return self._kinds[key.kind].not_found(key.name)

    def name_in_arn(self, kind: str, scope: Scope, lowered: str) -> str | None:
        """The name of the job whose ARN ends in this: ARNs are in lower case."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT name FROM workload WHERE kind = ? AND account = ? AND region = ?"
                " AND lower(name) = lower(?)",
                (kind, scope.account, scope.region, lowered),
            ).fetchone()
        return None if row is None else str(row["name"])

    def by_arn(self, arn: str) -> Job | None:
        """The job of an ARN; names are in lower case in there."""
        _, _, _, region, account, resource = arn.split(":", 5)
        kind, _, lowered = resource.partition("/")
        scope = Scope(account, region)
        name = self.name_in_arn(kind, scope, lowered)
        return None if name is None else self.get(WorkloadId(kind, scope, name))

    def change(
        self,
        key: WorkloadId,
        step: Callable[[Lifecycle], Lifecycle],
        artifacts: str | None = None,
    ) -> Job:
        """Take a job one step further, reading and writing in one transaction.

        `artifacts` becomes visible together with that step. Raises ValidationError for an
        unknown job, and IllegalTransition where the job's status does not allow the step.
        """
        return self.update(
            key,
            lambda job: replace(job, life=step(job.life), artifacts=artifacts or job.artifacts),
        )

    def update(self, key: WorkloadId, step: Callable[[Job], Job]) -> Job:
        """Replace a job by what `step` makes of it, in one transaction.

        Nothing is written if `step` raises or changes nothing. Raises ValidationError for an
        unknown job.
        """
        with self._database.writing() as connection:
            job = self._existing(connection, key)
            changed = step(job)
            if changed == job:
                return job
            connection.execute(
                "UPDATE workload SET request = ?, life = ?, status = ?, modified = ?,"
                " artifacts = ?, tags = ?, warm_pool = ?, runtime = ?, runtime_reason = ?,"
                " run = ?"
                " WHERE kind = ? AND account = ? AND region = ? AND name = ?",
                (*_state(changed), *_columns(key)),
            )
        return changed

    def delete(self, key: WorkloadId, check: Callable[[Job], None]) -> Job:
        """Forget a job unless `check` raises; raises ValidationError for an unknown one."""
        with self._database.writing() as connection:
            job = self._existing(connection, key)
            check(job)
            connection.execute(
                "DELETE FROM workload WHERE kind = ? AND account = ? AND region = ? AND name = ?",
                _columns(key),
            )
        return job

    def find(self, kind: str, scope: Scope, query: JobQuery) -> JobPage:
        """One page of the scope's jobs of that kind."""
        with self._database.reading() as connection:
            rows = connection.execute(*page_statement(kind, scope, query)).fetchall()
        page = rows[: query.limit]
        more = len(rows) > query.limit
        return JobPage(
            jobs=tuple(
                self._job(row) for row in page if query.status in (None, Status(row["status"]))
            ),
            next=Cursor(page[-1][query.sort_by], page[-1]["name"]) if more else None,
        )

    def each(self, kind: str, scope: Scope, conditions: tuple[Condition, ...]) -> Iterator[Job]:
        """All jobs of the scope and kind that meet the conditions, a few in memory at a time."""
        # Nothing is remembered of them: it would push out the jobs that clients poll.
        for row in self._rows(kind, scope, conditions, "job.*"):
            yield self._job(row, self._read_spec, _read_life)

    def _rows(
        self, kind: str, scope: Scope, conditions: tuple[Condition, ...], columns: str
    ) -> Iterator[sqlite3.Row]:
        query = JobQuery(conditions, sort_by="name", descending=False, limit=_READ_AHEAD)
        while True:
            statement = page_statement(kind, scope, query, columns)
            with self._database.reading() as connection:
                rows = connection.execute(*statement).fetchall()
            yield from rows[:_READ_AHEAD]
            if len(rows) <= _READ_AHEAD:
                return
            name = rows[_READ_AHEAD - 1]["name"]
            query = replace(query, after=Cursor(name, name))

    def excerpts(
        self,
        kind: str,
        scope: Scope,
        conditions: tuple[Condition, ...],
        members: Sequence[str],
    ) -> Iterator[Excerpt]:
        """The same jobs, with these members of their requests alone: a tenth of the cost."""
        columns = excerpt_columns(members)
        for row in self._rows(kind, scope, conditions, columns):
            yield Excerpt(
                row["name"],
                row["status"],
                row["created"],
                row["modified"],
                row["tags"],
                dict(zip(members, json.loads(row["members"])[2:], strict=True)),
            )

    def count(self, kind: str, scope: Scope, conditions: Sequence[Condition]) -> int:
        """The number of the scope's jobs of that kind for which all conditions hold."""
        with self._database.reading() as connection:
            (number,) = connection.execute(*count_statement(kind, scope, conditions)).fetchone()
        return int(number)

    def overview(self, query: Overview) -> tuple[int, list[Job]]:
        """How many workloads of all kinds and scopes the query finds, and those of its page."""
        count, page, values = overview_statements(query)
        with self._database.reading() as connection:
            (number,) = connection.execute(count, values).fetchone()
            rows = connection.execute(page, values).fetchall()
        return int(number), [self._job(row) for row in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many workloads of all scopes there are, by kind and status."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT kind, status, count(*) AS jobs FROM workload INDEXED BY workload_by_status"
                " GROUP BY kind, status"
            ).fetchall()
        return {(row["kind"], row["status"]): row["jobs"] for row in rows}

    def unfinished_by_phase(self) -> dict[Phase, int]:
        """How many jobs of all kinds and scopes are in each phase, of those that have not ended."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT json_extract(life, '$.transitions[#-1].status') AS phase,"
                " count(*) AS jobs FROM workload"
                " WHERE status IN ('InProgress', 'Stopping') GROUP BY phase"
            ).fetchall()
        return {Phase(row["phase"]): row["jobs"] for row in rows}

    def with_open_pools(self) -> list[Job]:
        """The jobs of all scopes whose warm pools are not over, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM workload WHERE warm_pool IS NOT NULL ORDER BY created"
            ).fetchall()
        jobs = (self._job(row) for row in rows)
        return [job for job in jobs if job.warm_pool and not job.warm_pool.over]

    def unfinished_on(self, runtime: str) -> int:
        """The number of jobs of all scopes that have not ended and have that runtime."""
        with self._database.reading() as connection:
            (number,) = connection.execute(
                "SELECT count(*) FROM workload"
                " WHERE status IN ('InProgress', 'Stopping') AND runtime = ?",
                (runtime,),
            ).fetchone()
        return int(number)

    def unfinished(self) -> list[Job]:
        """The jobs of all scopes that have not ended, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM workload WHERE status IN ('InProgress', 'Stopping') ORDER BY created"
            ).fetchall()
        return [self._job(row) for row in rows]

    def _find(self, connection: sqlite3.Connection, key: WorkloadId) -> Job | None:
        row = connection.execute(
            "SELECT * FROM workload WHERE kind = ? AND account = ? AND region = ? AND name = ?",
            _columns(key),
        ).fetchone()
        return None if row is None else self._job(row)

    def _existing(self, connection: sqlite3.Connection, key: WorkloadId) -> Job:
        job = self._find(connection, key)
        if job is None:
            raise ValidationError(self.not_found(key))
        return job

    def _read_spec(self, kind: str, request: str, account: str, region: str) -> WorkloadSpec:
        return self._kinds[kind].read(json.loads(request), Scope(account, region))

    def _job(
        self,
        row: sqlite3.Row,
        spec: Callable[[str, str, str, str], WorkloadSpec] | None = None,
        life: Callable[[str], Lifecycle] | None = None,
    ) -> Job:
        return Job(
            spec=(spec or self._spec)(row["kind"], row["request"], row["account"], row["region"]),
            life=(life or _life)(row["life"]),
            artifacts=row["artifacts"],
            tags=json.loads(row["tags"]),
            warm_pool=None if row["warm_pool"] is None else _pool(json.loads(row["warm_pool"])),
            runtime=row["runtime"],
            runtime_reason=row["runtime_reason"] or "",
            run=_run(row),
        )


def _run(row: sqlite3.Row) -> RunRecord | None:
    """None also for one that cannot be read: the other workloads must run."""
    try:
        return None if row["run"] is None else RunRecord.from_json(row["run"])
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("%s %s: its attempt cannot be read: %s", row["kind"], row["name"], error)
        return None


def _columns(key: WorkloadId) -> tuple[str, str, str, str]:
    """kind, account, region, name"""
    return key.kind, key.scope.account, key.scope.region, key.name


def _read_life(text: str) -> Lifecycle:
    stored = json.loads(text)
    stored["status"] = Status(stored["status"])
    for entry in stored["transitions"]:
        entry["status"] = Phase(entry["status"])
    stored["transitions"] = tuple(Transition(**entry) for entry in stored["transitions"])
    return Lifecycle(**stored)


_life = lru_cache(maxsize=_REMEMBERED)(_read_life)


def _state(job: Job) -> tuple[str | float | None, ...]:
    """request, life, status, modified, artifacts, tags, warm_pool, runtime, runtime_reason, run"""
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
        None if job.run is None else job.run.to_json(),
    )


def _pool(stored: dict[str, Any]) -> WarmPool:
    return WarmPool(**{**stored, "status": PoolStatus(stored["status"])})
