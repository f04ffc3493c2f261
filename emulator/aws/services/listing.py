"""Pages of jobs: what the List operations of all kinds of jobs have in common."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Literal

from emulator.model.errors import ValidationError
from emulator.model.lifecycle import Status
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
