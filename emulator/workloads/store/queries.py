"""Questions about many jobs, and the SQL that answers them: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from emulator.model.lifecycle import Status
from emulator.model.record import Job
from emulator.model.scope import Scope

Column: TypeAlias = Literal["name", "created", "modified", "status"]
"""What jobs can be narrowed down and ordered by: each order has an index with all columns."""
Value: TypeAlias = "str | float"


@dataclass(frozen=True)
class Term:
    """A condition on one column; times are in epoch seconds."""

    column: Column
    operator: Literal["=", "<>", "<", "<=", ">", ">=", "contains", "in"]
    value: Value | tuple[str, ...]
    """Several for "in" alone."""


@dataclass(frozen=True)
class Tagged:
    """The condition that a job has this tag."""

    key: str
    value: str


Condition: TypeAlias = "Term | Tagged"


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: the last job's sort key and its name."""

    key: Value
    name: str


@dataclass(frozen=True)
class JobQuery:
    """Some of a scope's jobs, in order; ties are broken by name."""

    conditions: tuple[Condition, ...] = ()
    """All must hold."""
    status: Status | None = None
    """Applied after the page was taken, as ListTrainingJobs does: pages may come out short."""
    sort_by: Column = "created"
    descending: bool = True
    limit: int = 10
    after: Cursor | None = None


@dataclass(frozen=True)
class JobPage:
    """Some jobs, and where the next page starts (None: there is none)."""

    jobs: tuple[Job, ...]
    next: Cursor | None


@dataclass(frozen=True)
class Overview:
    """Some workloads of all kinds and scopes, newest first."""

    kinds: tuple[str, ...] = ()
    """Any without one."""
    statuses: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    text: str = ""
    """A part of the name, in upper or lower case."""
    limit: int = 100
    offset: int = 0


def overview_statements(query: Overview) -> tuple[str, str, Sequence[Value]]:
    """What counts the workloads, what selects them, and the values to bind to either.

    As in `page_statement`, an index alone is gone through to find them.
    """
    terms, values = ["1"], list[Value]()
    for column, wanted in (
        ("kind", query.kinds),
        ("status", query.statuses),
        ("account", query.accounts),
        ("region", query.regions),
    ):
        if wanted:
            terms.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    if query.text:
        terms.append("instr(lower(name), lower(?)) > 0")
        values.append(query.text)
    found = f"FROM workload INDEXED BY workload_by_created WHERE {' AND '.join(terms)}"
    order = "ORDER BY created DESC, name"
    page = (
        f"SELECT job.* FROM (SELECT kind, account, region, name {found} {order}"  # noqa: S608 - ours
        f" LIMIT {query.limit:d} OFFSET {query.offset:d})"
        f" JOIN workload AS job USING (kind, account, region, name) {order}"
    )
    return f"SELECT count(*) {found}", page, values


def page_statement(
    kind: str, scope: Scope, query: JobQuery, columns: str = "job.*"
) -> tuple[str, Sequence[Value]]:
    """What selects a page and one row more, and the values to bind.

    The inner query finds the page in the order's index alone; whole rows are read of that page
    only. SQLite is told which index, because it knows nothing of how long the rows are.
    """
    where, values = _where(kind, scope, query.conditions)
    direction, beyond = ("DESC", "<") if query.descending else ("ASC", ">")
    # By name there are no ties; naming the column twice would make SQLite sort once more.
    ties = query.sort_by != "name"
    order = f"ORDER BY {query.sort_by} {direction}" + (f", name {direction}" if ties else "")
    if query.after and ties:
        where += f" AND ({query.sort_by}, name) {beyond} (?, ?)"
        values += [query.after.key, query.after.name]
    elif query.after:
        where += f" AND name {beyond} ?"
        values.append(query.after.name)
    return (
        f"SELECT {columns} FROM (SELECT kind, account, region, name FROM workload"  # noqa: S608 - ours
        f" INDEXED BY workload_by_{query.sort_by} WHERE {where} {order} LIMIT ?)"
        f" JOIN workload AS job USING (kind, account, region, name) {order}"
    ), [*values, query.limit + 1]


def excerpt_columns(members: Iterable[str]) -> str:
    """The columns of a job that are short, and as `members` a JSON list of these of its request.

    SQLite reads the long texts, and Python only what is asked for of them.
    """
    # With fewer than two paths there would be no list.
    paths = ["'$.RoleArn'"] * 2 + [f"'$.{member}'" for member in members]
    listed = f"json_extract(job.request, {', '.join(paths)}) AS members"
    return f"job.name, job.status, job.created, job.modified, job.tags, {listed}"


def count_statement(
    kind: str, scope: Scope, conditions: Sequence[Condition]
) -> tuple[str, Sequence[Value]]:
    """What counts the jobs for which all conditions hold, and the values to bind."""
    where, values = _where(kind, scope, conditions)
    return f"SELECT count(*) FROM workload WHERE {where}", values  # noqa: S608 - ours


def _where(kind: str, scope: Scope, conditions: Sequence[Condition]) -> tuple[str, list[Value]]:
    """Only words from this file are formatted in; every value is bound."""
    terms = ["kind = ?", "account = ?", "region = ?"]
    values: list[Value] = [kind, scope.account, scope.region]
    for condition in conditions:
        term, bound = _term(condition)
        terms.append(term)
        values += bound
    return " AND ".join(terms), values


def _term(condition: Condition) -> tuple[str, Sequence[Value]]:
    if isinstance(condition, Tagged):
        pair = (condition.key, condition.value)
        return "EXISTS (SELECT 1 FROM json_each(tags) WHERE key = ? AND value = ?)", pair
    column, value = condition.column, condition.value
    if isinstance(value, tuple):
        return f"{column} IN ({', '.join('?' * len(value))})", value
    if condition.operator == "contains":
        return f"instr({column}, ?) > 0", (value,)
    return f"{column} {condition.operator} ?", (value,)
