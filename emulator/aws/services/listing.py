"""Pages: what the List operations of all kinds of jobs and of hosting have in common."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Status
from emulator.workloads.serving.store import Resource
from emulator.workloads.store.queries import Column, Cursor, JobQuery, Term

DEFAULT_PAGE = 10
"""Jobs in a page when MaxResults is not given."""

_ORDERS: Mapping[str, Column] = {"Name": "name", "CreationTime": "created", "Status": "status"}
_FILTERS: Mapping[str, tuple[Column, Literal["contains", "<", ">"]]] = {
    "NameContains": ("name", "contains"),
    "CreationTimeAfter": ("created", ">"),
    "CreationTimeBefore": ("created", "<"),
    "LastModifiedTimeAfter": ("modified", ">"),
    "LastModifiedTimeBefore": ("modified", "<"),
}


def query(params: Mapping[str, Any]) -> JobQuery:
    """Newest first unless asked otherwise (seen; the documentation says ascending).

    Raises ValidationError for a token that is none.
    """
    sort_by = _ORDERS[params.get("SortBy", "CreationTime")]
    return JobQuery(
        conditions=tuple(
            Term(column, operator, params[name])
            for name, (column, operator) in _FILTERS.items()
            if params.get(name) is not None
        ),
        status=_status(params.get("StatusEquals")),
        sort_by=sort_by,
        descending=params.get("SortOrder", "Descending") == "Descending",
        limit=params.get("MaxResults", DEFAULT_PAGE),
        after=_cursor(params["NextToken"], sort_by) if params.get("NextToken") else None,
    )


def token(cursor: Cursor | None) -> str | None:
    """NextToken for where a page ended."""
    if cursor is None:
        return None
    text = json.dumps([cursor.key, cursor.name])
    return base64.b64encode(text.encode()).decode("ascii")


@dataclass(frozen=True)
class ResourcePage:
    """A part of a listing, and the token of the next part."""

    rows: Sequence[Resource]
    token: str | None


def page(
    resources: Sequence[Resource],
    params: Mapping[str, Any],
    keep: Callable[[Resource], bool] = lambda _: True,
) -> ResourcePage:
    """The models, configurations, endpoints or components that a List operation asks for.

    `keep` says which of them count, beside what all of these operations can ask. Raises
    ValidationError for a token that is none.
    """
    asked = query(params)
    rows = [
        each
        for each in resources
        if keep(each)
        and params.get("StatusEquals", each.status) == each.status
        and all(_holds(each, term) for term in asked.conditions if isinstance(term, Term))
    ]

    def order(each: Resource) -> tuple[Any, str]:
        keys = {"name": each.name, "created": each.created, "status": each.status or ""}
        return keys[asked.sort_by], each.name

    rows.sort(key=order, reverse=asked.descending)
    if asked.after is not None:
        last = (asked.after.key, asked.after.name)
        rows = [
            each
            for each in rows
            if (order(each) < last if asked.descending else order(each) > last)
        ]
    shown = rows[: asked.limit]
    more = len(rows) > len(shown)
    return ResourcePage(shown, token(Cursor(*order(shown[-1]))) if more else None)


def _holds(resource: Resource, term: Term) -> bool:
    value = getattr(resource, term.column)
    if term.operator == "contains":
        return str(term.value).lower() in str(value).lower()
    return bool(value > term.value) if term.operator == ">" else bool(value < term.value)


def _status(name: str | None) -> Status | None:
    """None for a status that no job here has, too: a page is narrowed down by it later."""
    return Status(name) if name in {status.value for status in Status} else None


def _cursor(token: str, sort_by: Column) -> Cursor:
    """Where the last page ended; a token of another order is none of this one's."""
    try:
        key, name = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise ValidationError("Invalid NextToken") from None
    kind = float if sort_by in ("created", "modified") else str
    if not isinstance(key, kind) or not isinstance(name, str):
        raise ValidationError("Invalid NextToken")
    return Cursor(key, name)
