"""Measured values in a database of their own: they come often, and must not hold up the jobs'."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

from emulator.database import Database
from emulator.model.scope import Scope
from emulator.telemetry.metrics.statistics import Sample

MIGRATIONS = tuple(
    files("emulator.telemetry.metrics").joinpath(script).read_text("utf-8")
    for script in ("schema.sql", "sources.sql")
)
"""Applied in this order; a new one goes to the end."""

Dimensions = tuple[tuple[str, str], ...]
"""Names and values; their order does not matter."""


@dataclass(frozen=True)
class Series:
    """What is measured; values of different units are apart."""

    namespace: str
    name: str
    dimensions: Dimensions = ()
    unit: str = "None"


@dataclass(frozen=True)
class SeriesQuery:
    """Which series are wanted; None stands for any."""

    namespace: str | None = None
    name: str | None = None
    dimensions: Sequence[tuple[str, str | None]] = ()
    """Each must be there; None is any value."""
    active_since: float | None = None
    """Epoch seconds of the last sample, at the earliest."""


class Point(NamedTuple):
    """One value as it was measured."""

    number: int
    """Grows with every value that is kept, over all series."""
    name: str
    source: str | None
    """The instance that wrote it, where that is known."""
    at: float
    value: float


@dataclass(frozen=True)
class TrialValue:
    """One value of BatchPutMetrics."""

    name: str
    at: float
    value: float
    step: int | None = None


class MetricStore:
    """The series of all scopes."""

    def __init__(self, database: Database):
        """`database` is one with this module's MIGRATIONS."""
        self._database = database

    def put(
        self, scope: Scope, samples: Iterable[tuple[Series, Sample]], source: str | None = None
    ) -> None:
        """Keep samples, all or none; `source` names the instance that wrote them."""
        with self._database.writing() as connection:
            groups: dict[Series, list[Sample]] = {}
            for series, sample in samples:
                groups.setdefault(series, []).append(sample)
            for series, group in groups.items():
                number = _number(connection, scope, series)
                connection.executemany(
                    "INSERT INTO sample (series, at, count, total, minimum, maximum, source)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(number, *sample, source) for sample in group],
                )

    def samples(
        self, scope: Scope, series: Series, any_unit: bool, start: float, end: float
    ) -> dict[str, list[Sample]]:
        """The samples from `start` until before `end`, by unit and in time.

        The series' own unit counts unless `any_unit` is set.
        """
        columns, order = "at, count, total, minimum, maximum", "ORDER BY at, sample.rowid"
        return self._read(scope, series, any_unit, (columns, ()), start, end, order)

    def sums(
        self, scope: Scope, series: Series, any_unit: bool, start: float, end: float, length: int
    ) -> dict[str, list[Sample]]:
        """The same, with all samples of a period of `length` seconds as one, at its start.

        However many samples there are, only these are in memory.
        """
        columns = (
            "? + ? * CAST((at - ?) / ? AS INTEGER) AS period,"
            " sum(count), sum(total), min(minimum), max(maximum)"
        )
        values = (start, length, start, length)
        order = "GROUP BY unit, period ORDER BY period"
        return self._read(scope, series, any_unit, (columns, values), start, end, order)

    def _read(
        self,
        scope: Scope,
        series: Series,
        any_unit: bool,
        columns: tuple[str, tuple[float, ...]],
        start: float,
        end: float,
        order: str,
    ) -> dict[str, list[Sample]]:
        terms = "account = ? AND region = ? AND namespace = ? AND name = ? AND dimensions = ?"
        values = [*_key(scope, series)]
        if any_unit:
            values.pop()
        else:
            terms += " AND unit = ?"
        names, bound = columns
        found: dict[str, list[Sample]] = {}
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT unit, {names}"  # noqa: S608 - all words are from this file
                f" FROM series JOIN sample ON sample.series = series.id WHERE {terms}"
                f" AND at >= ? AND at < ? {order}",
                (*bound, *values, start, end),
            )
            for unit, *numbers in rows:
                found.setdefault(unit, []).append(Sample(*numbers))
        return found

    def series(
        self, scope: Scope, query: SeriesQuery, after: int, limit: int
    ) -> list[tuple[int, Series]]:
        """Series with their numbers, in the order of these, beginning behind number `after`."""
        terms = ["account = ?", "region = ?", "id > ?"]
        values: list[str | float | int] = [scope.account, scope.region, after]
        if query.namespace is not None:
            terms.append("namespace = ?")
            values.append(query.namespace)
        if query.name is not None:
            terms.append("name = ?")
            values.append(query.name)
        for name, value in query.dimensions:
            terms.append("instr(dimensions, ?) > 0")
            # Quotes within names and values are escaped: nothing else looks like this.
            values.append(f"[{json.dumps(name)}, " if value is None else json.dumps([name, value]))
        if query.active_since is not None:
            terms.append("EXISTS (SELECT 1 FROM sample WHERE series = series.id AND at >= ?)")
            values.append(query.active_since)
        statement = (
            "SELECT id, namespace, name, dimensions, unit FROM series"  # noqa: S608 - as above
            f" WHERE {' AND '.join(terms)} ORDER BY id LIMIT ?"
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement, (*values, limit)).fetchall()
        return [
            (row["id"], Series(row["namespace"], row["name"], _pairs(row["dimensions"])))
            for row in rows
        ]

    def last(
        self, scope: Scope, namespace: str, dimensions: Dimensions, since: float
    ) -> dict[str, Sample]:
        """The latest sample of every series with exactly these dimensions, by its name."""
        with self._database.reading() as connection:
            names = connection.execute(
                "SELECT id, name FROM series WHERE account = ? AND region = ? AND namespace = ?"
                " AND dimensions = ? ORDER BY id",
                (scope.account, scope.region, namespace, _text(dimensions)),
            ).fetchall()
            found = {}
            for row in names:
                latest = connection.execute(
                    "SELECT at, count, total, minimum, maximum FROM sample"
                    " WHERE series = ? AND at >= ? ORDER BY at DESC, rowid DESC LIMIT 1",
                    (row["id"], since),
                ).fetchone()
                if latest:
                    found[row["name"]] = Sample(*latest)
        return found

    def points(
        self, scope: Scope, namespace: str, dimensions: Dimensions, after: int, limit: int
    ) -> list[Point]:
        """Every value of the series with exactly these dimensions, as it came.

        Those that were kept after number `after`, at most `limit` of them.
        """
        with self._database.reading() as connection:
            names = {
                row["id"]: row["name"]
                for row in connection.execute(
                    "SELECT id, name FROM series WHERE account = ? AND region = ?"
                    " AND namespace = ? AND dimensions = ?",
                    (scope.account, scope.region, namespace, _text(dimensions)),
                )
            }
            # What is new is at the table's end: the index would lead through all that is known.
            how = "NOT INDEXED" if after else "INDEXED BY sample_in_time"
            rows = connection.execute(
                f"SELECT rowid, series, source, at, maximum FROM sample {how}"  # noqa: S608 - ours
                f" WHERE series IN ({', '.join('?' * len(names))}) AND rowid > ?"
                " ORDER BY rowid LIMIT ?",
                (*names, after, limit),
            ).fetchall()
        return [
            Point(row["rowid"], names[row["series"]], row["source"], row["at"], row["maximum"])
            for row in rows
        ]

    def newest(self) -> int:
        """The number of the value that was kept last; 0 where there is none."""
        with self._database.reading() as connection:
            (number,) = connection.execute("SELECT max(rowid) FROM sample").fetchone()
        return int(number or 0)

    def prune(self, before: float) -> int:
        """Forget values measured before a time in epoch seconds, and series without any.

        A transaction a series: measuring goes on meanwhile. Returns how many values went.
        """
        with self._database.reading() as connection:
            numbers = [row["id"] for row in connection.execute("SELECT id FROM series").fetchall()]
        removed = 0
        for number in numbers:
            with self._database.reading() as connection:
                (oldest,) = connection.execute(
                    "SELECT min(at) FROM sample WHERE series = ?", (number,)
                ).fetchone()
            if oldest is not None and oldest >= before:
                continue
            with self._database.writing() as connection:
                removed += connection.execute(
                    "DELETE FROM sample WHERE series = ? AND at < ?", (number, before)
                ).rowcount
                connection.execute(
                    "DELETE FROM series WHERE id = ?"
                    " AND NOT EXISTS (SELECT 1 FROM sample WHERE series = ?)",
                    (number, number),
                )
        with self._database.writing() as connection:
            removed += connection.execute(
                "DELETE FROM trial_metric WHERE at < ?", (before,)
            ).rowcount
        return removed

    def put_trial(self, scope: Scope, component: str, values: Iterable[TrialValue]) -> None:
        """Keep values of a trial component."""
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT INTO trial_metric VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (scope.account, scope.region, component, v.name, v.at, v.step, v.value)
                    for v in values
                ],
            )

    def trial(self, scope: Scope, component: str, name: str) -> list[TrialValue]:
        """All values of one metric of a trial component, in time."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT name, at, value, step FROM trial_metric WHERE account = ? AND region = ?"
                " AND component = ? AND name = ? ORDER BY at, rowid",
                (scope.account, scope.region, component, name),
            ).fetchall()
        return [TrialValue(*row) for row in rows]


def _number(connection: sqlite3.Connection, scope: Scope, series: Series) -> int:
    key = _key(scope, series)
    connection.execute(
        "INSERT OR IGNORE INTO series (account, region, namespace, name, dimensions, unit)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        key,
    )
    (number,) = connection.execute(
        "SELECT id FROM series WHERE account = ? AND region = ? AND namespace = ? AND name = ?"
        " AND dimensions = ? AND unit = ?",
        key,
    ).fetchone()
    return int(number)


def _key(scope: Scope, series: Series) -> tuple[str, ...]:
    text = _text(series.dimensions)
    return (scope.account, scope.region, series.namespace, series.name, text, series.unit)


def _text(dimensions: Dimensions) -> str:
    return json.dumps(sorted(dimensions))


def _pairs(text: str) -> Dimensions:
    return tuple((name, value) for name, value in json.loads(text))
