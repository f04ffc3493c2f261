"""The queue of asynchronous endpoints in the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files

from emulator.aws.invocations.container_http import Headers
from emulator.database import Database
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri

MIGRATION = files("emulator.aws.invocations").joinpath("queue.sql").read_text("utf-8")


@dataclass(frozen=True)
class Waiting:
    """A request that has no result yet."""

    id: str
    scope: Scope
    endpoint: str
    created: float
    expires: float
    seconds: float
    headers: Headers
    """Those that the container gets."""
    input: S3Uri | None
    body: bytes | None
    output: S3Uri
    failure: S3Uri | None


@dataclass(frozen=True)
class Backlog:
    """How many requests have no result yet, and when the oldest of them came."""

    count: int
    oldest: float | None


class QueueStore:
    """Any thread may use it."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, waiting: Waiting) -> None:
        """Keep a request before it is answered that it is accepted."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO async_invocation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    waiting.id,
                    waiting.scope.account,
                    waiting.scope.region,
                    waiting.endpoint,
                    waiting.created,
                    waiting.expires,
                    waiting.seconds,
                    json.dumps(
                        [[n.decode("latin-1"), v.decode("latin-1")] for n, v in waiting.headers]
                    ),
                    str(waiting.input) if waiting.input else None,
                    waiting.body,
                    str(waiting.output),
                    str(waiting.failure) if waiting.failure else None,
                ),
            )

    def next(self, scope: Scope, endpoint: str, limit: int, but: Collection[str]) -> list[Waiting]:
        """The oldest requests of an endpoint, without some."""
        marks = ", ".join("?" * len(but))
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM async_invocation WHERE account = ? AND region = ? AND endpoint = ?"  # noqa: S608 - marks alone
                f" AND id NOT IN ({marks}) ORDER BY created, id LIMIT ?",
                (scope.account, scope.region, endpoint, *but, limit),
            ).fetchall()
        return [_waiting(row) for row in rows]

    def remove(self, identifier: str) -> None:
        """Its result is in S3."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM async_invocation WHERE id = ?", (identifier,))

    def remove_all(self, scope: Scope, endpoint: str) -> int:
        """The endpoint is gone; how many requests went with it."""
        with self._database.writing() as connection:
            return connection.execute(
                "DELETE FROM async_invocation WHERE account = ? AND region = ? AND endpoint = ?",
                (scope.account, scope.region, endpoint),
            ).rowcount

    def endpoints(self) -> list[tuple[Scope, str]]:
        """Those with requests that have no result."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT account, region, endpoint FROM async_invocation"
            ).fetchall()
        return [(Scope(row["account"], row["region"]), row["endpoint"]) for row in rows]

    def backlog(self, scope: Scope, endpoint: str) -> Backlog:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT count(*) AS count, min(created) AS oldest FROM async_invocation"
                " WHERE account = ? AND region = ? AND endpoint = ?",
                (scope.account, scope.region, endpoint),
            ).fetchone()
        return Backlog(row["count"], row["oldest"])


def _waiting(row: sqlite3.Row) -> Waiting:
    def uri(name: str) -> S3Uri | None:
        return S3Uri.parse(row[name]) if row[name] else None

    output = uri("output")
    assert output is not None  # noqa: S101 - NOT NULL
    return Waiting(
        id=row["id"],
        scope=Scope(row["account"], row["region"]),
        endpoint=row["endpoint"],
        created=row["created"],
        expires=row["expires"],
        seconds=row["seconds"],
        headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in json.loads(row["headers"])],
        input=uri("input"),
        body=row["body"],
        output=output,
        failure=uri("failure"),
    )
