"""Models, endpoint configurations and endpoints in the database; every change is a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from typing import Any

from emulator.database import Database
from emulator.model.errors import ResourceInUse, ValidationError
from emulator.model.hosting import Deployment, Endpoint, EndpointStatus
from emulator.model.scope import Scope

MIGRATION = files("emulator.workloads.serving").joinpath("hosting.sql").read_text("utf-8")

MODEL = "model"
CONFIG = "endpoint-config"
ENDPOINT = "endpoint"
COMPONENT = "inference-component"
TRANSFORM = "transform-job"
NOUNS: Mapping[str, str] = {
    MODEL: "model",
    CONFIG: "endpoint configuration",
    ENDPOINT: "endpoint",
    COMPONENT: "inference component",
    TRANSFORM: "transform job",
}
"""What the service's errors call each kind."""

ReadDeployment = Callable[[Mapping[str, Any]], Deployment]
"""Reads Deployment.sources (pure)."""


@dataclass(frozen=True)
class Resource:
    """A row: what was asked for, and what became of it."""

    kind: str
    """As in ARNs."""
    scope: Scope
    name: str
    created: float
    modified: float
    request: Mapping[str, Any]
    status: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return self.scope.arn(self.kind, self.name)


@dataclass(frozen=True)
class InstanceRow:
    """An instance that was started."""

    id: str
    scope: Scope
    endpoint: str
    deployment: int
    variant: str
    runtime: str
    began: float
    port: int
    """Of its first container."""
    serves: bool = False
    """Whether it has answered a ping."""


class HostingStore:
    """Any thread may use it."""

    def __init__(self, database: Database, read: ReadDeployment):
        self._database = database
        self._read = read

    def create(self, resource: Resource) -> Resource:
        """Keep a new one.

        Where the name is taken, raises in the service's words ResourceInUse for a job and
        ValidationError for all others.
        """
        try:
            with self._database.writing() as connection:
                connection.execute(
                    "INSERT INTO hosting (kind, account, region, name, created, modified, status,"
                    " request, state, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*_key(resource), resource.created, *_columns(resource)),
                )
        except sqlite3.IntegrityError as error:
            if resource.kind == TRANSFORM:
                raise ResourceInUse(
                    "Transform job names must be unique within an AWS account and region, and a "
                    f"transform job with this name already exists ({resource.arn})"
                ) from error
            raise ValidationError(
                f'Cannot create already existing {NOUNS[resource.kind]} "{resource.arn}".'
            ) from error
        return resource

    def find(self, kind: str, scope: Scope, name: str) -> Resource | None:
        """Names are compared as they are written."""
        with self._database.reading() as connection:
            return _find(connection, kind, scope, name)

    def get(self, kind: str, scope: Scope, name: str) -> Resource:
        """Raises ValidationError in the service's words where there is none."""
        return _existing(self.find(kind, scope, name), kind, scope, name)

    def name_in_arn(self, kind: str, scope: Scope, lowered: str) -> str | None:
        """The name of the resource whose ARN ends in this: ARNs are in lower case."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT name FROM hosting WHERE kind = ? AND account = ? AND region = ?"
                " AND lower(name) = lower(?)",
                (kind, scope.account, scope.region, lowered),
            ).fetchone()
        return None if row is None else str(row["name"])

    def all(self, kind: str, scope: Scope | None = None) -> list[Resource]:
        """Of a scope, or of all; oldest first."""
        where = "" if scope is None else " AND account = ? AND region = ?"
        of = () if scope is None else (scope.account, scope.region)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT * FROM hosting WHERE kind = ?{where} ORDER BY created, name",  # noqa: S608
                (kind, *of),
            ).fetchall()
        return [_resource(row) for row in rows]

    def update(
        self, kind: str, scope: Scope, name: str, step: Callable[[Resource], Resource]
    ) -> Resource:
        """Replace it by what `step` makes of it, in one transaction; nothing if `step` raises.

        Raises ValidationError where there is none.
        """
        with self._database.writing() as connection:
            found = _existing(_find(connection, kind, scope, name), kind, scope, name)
            changed = step(found)
            if changed != found:
                connection.execute(
                    "UPDATE hosting SET modified = ?, status = ?, request = ?, state = ?, tags = ?"
                    " WHERE kind = ? AND account = ? AND region = ? AND name = ?",
                    (*_columns(changed), *_key(changed)),
                )
        return changed

    def delete(self, kind: str, scope: Scope, name: str) -> Resource:
        """Forget it; raises ValidationError where there is none."""
        with self._database.writing() as connection:
            found = _existing(_find(connection, kind, scope, name), kind, scope, name)
            connection.execute(
                "DELETE FROM hosting WHERE kind = ? AND account = ? AND region = ? AND name = ?",
                _key(found),
            )
            if kind == ENDPOINT:
                # The ends of its instances were recorded before, unless the disk was full then.
                connection.execute(
                    "DELETE FROM endpoint_instance"
                    " WHERE account = ? AND region = ? AND endpoint = ?",
                    (scope.account, scope.region, name),
                )
        return found

    def endpoint(self, scope: Scope, name: str) -> Endpoint | None:
        found = self.find(ENDPOINT, scope, name)
        return None if found is None else self.read_endpoint(found)

    def endpoints(self) -> list[Endpoint]:
        """Of all scopes, oldest first."""
        return [self.read_endpoint(found) for found in self.all(ENDPOINT)]

    def read_endpoint(self, resource: Resource) -> Endpoint:
        """The endpoint that a row of that kind tells of."""
        state = resource.state
        return Endpoint(
            scope=resource.scope,
            name=resource.name,
            status=EndpointStatus(resource.status),
            created=resource.created,
            modified=resource.modified,
            request=resource.request,
            tags=resource.tags,
            failure_reason=state.get("failure_reason"),
            current=self._deployment(state.get("current")),
            pending=self._deployment(state.get("pending")),
            pending_since=state.get("pending_since"),
        )

    def change(self, scope: Scope, name: str, step: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Replace an endpoint by what `step` makes of it, in one transaction."""

        def stepped(resource: Resource) -> Resource:
            before = self.read_endpoint(resource)
            after = step(before)
            return resource if after == before else replace(resource, **_row_of(after))

        return self.read_endpoint(self.update(ENDPOINT, scope, name, stepped))

    def _deployment(self, sources: Mapping[str, Any] | None) -> Deployment | None:
        return None if sources is None else self._read(sources)

    def with_counts(
        self, deployment: Deployment | None, counts: Mapping[str, int]
    ) -> Deployment | None:
        """The deployment with other numbers of instances."""
        if deployment is None:
            return None
        desired = dict(deployment.sources.get("desired", {}))
        for name, count in counts.items():
            desired[name] = {**desired.get(name, {}), "count": count}
        return self._read({**deployment.sources, "desired": desired})

    def add_instance(self, row: InstanceRow) -> None:
        """Before it is started: the next emulator looks for it."""
        values = {**asdict(row), "account": row.scope.account, "region": row.scope.region}
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO endpoint_instance (id, account, region, endpoint,"
                " deployment, variant, runtime, began, port, serves) VALUES (:id, :account,"
                " :region, :endpoint, :deployment, :variant, :runtime, :began, :port, :serves)",
                {name: value for name, value in values.items() if name != "scope"},
            )

    def note_serving(self, identifier: str) -> None:
        """It has answered a ping."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE endpoint_instance SET serves = 1 WHERE id = ?", (identifier,)
            )

    def remove_instance(self, identifier: str) -> None:
        """Nothing of it is left."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM endpoint_instance WHERE id = ?", (identifier,))

    def instances(self) -> list[InstanceRow]:
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM endpoint_instance ORDER BY began").fetchall()
        return [
            InstanceRow(
                row["id"],
                Scope(row["account"], row["region"]),
                row["endpoint"],
                row["deployment"],
                row["variant"],
                row["runtime"],
                row["began"],
                row["port"],
                bool(row["serves"]),
            )
            for row in rows
        ]


def not_found(kind: str, arn: str) -> ValidationError:
    """The service's words for a name that nothing has."""
    return ValidationError(f'Could not find {NOUNS[kind]} "{arn}".')


def endpoint_row(endpoint: Endpoint) -> Resource:
    """The row of a new endpoint."""
    return Resource(
        kind=ENDPOINT,
        scope=endpoint.scope,
        name=endpoint.name,
        request=endpoint.request,
        created=endpoint.created,
        tags=endpoint.tags,
        **_row_of(endpoint),
    )


def _row_of(endpoint: Endpoint) -> dict[str, Any]:
    """The members of its row that change."""
    return {
        "modified": endpoint.modified,
        "status": endpoint.status.value,
        "state": {
            "failure_reason": endpoint.failure_reason,
            "current": endpoint.current and endpoint.current.sources,
            "pending": endpoint.pending and endpoint.pending.sources,
            "pending_since": endpoint.pending_since,
        },
    }


def _find(connection: sqlite3.Connection, kind: str, scope: Scope, name: str) -> Resource | None:
    row = connection.execute(
        "SELECT * FROM hosting WHERE kind = ? AND account = ? AND region = ? AND name = ?",
        (kind, scope.account, scope.region, name),
    ).fetchone()
    return None if row is None else _resource(row)


def _existing(found: Resource | None, kind: str, scope: Scope, name: str) -> Resource:
    if found is None:
        if kind == TRANSFORM:
            raise ValidationError(f"Could not find requested job with name: {name}")
        raise not_found(kind, scope.arn(kind, name))
    return found


def _key(resource: Resource) -> tuple[str, str, str, str]:
    """kind, account, region, name"""
    return resource.kind, resource.scope.account, resource.scope.region, resource.name


def _columns(resource: Resource) -> Iterable[Any]:
    """modified, status, request, state, tags"""
    texts = (json.dumps(each) for each in (resource.request, resource.state, dict(resource.tags)))
    return resource.modified, resource.status, *texts


def _resource(row: sqlite3.Row) -> Resource:
    return Resource(
        kind=row["kind"],
        scope=Scope(row["account"], row["region"]),
        name=row["name"],
        created=row["created"],
        modified=row["modified"],
        request=json.loads(row["request"]),
        status=row["status"],
        state=json.loads(row["state"]),
        tags=json.loads(row["tags"]),
    )
