"""What of a search the database can decide by itself: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from emulator.aws.services.search_expressions import choices_of
from emulator.aws.wire.json_protocol import iso_to_epoch
from emulator.workloads.store.queries import Column, Condition, Tagged, Term

COLUMNS: Mapping[str, Column] = {
    "TrainingJobName": "name",
    "TrainingJobStatus": "status",
    "CreationTime": "created",
    "LastModifiedTime": "modified",
}
"""Properties that the database can search and sort by."""

_Sign: TypeAlias = Literal["=", "<>", "<", "<=", ">", ">="]
_SIGNS: Mapping[str, _Sign] = {
    "Equals": "=",
    "NotEquals": "<>",
    "LessThan": "<",
    "LessThanOrEqualTo": "<=",
    "GreaterThan": ">",
    "GreaterThanOrEqualTo": ">=",
}


def conditions_of(expression: Mapping[str, Any] | None) -> tuple[tuple[Condition, ...], bool]:
    """Conditions that every job has to meet that a valid SearchExpression finds.

    The flag says whether they are the whole expression: else each such job is to be tested.
    """
    if expression is None:
        return (), True
    filters = expression.get("Filters", ())
    others = expression.get("NestedFilters") or expression.get("SubExpressions")
    if expression.get("Operator") == "Or":
        return (), False
    found = [condition for one in filters if (condition := _condition(one)) is not None]
    return tuple(found), len(found) == len(filters) and not others


def _condition(one: Mapping[str, Any]) -> Condition | None:
    name, wanted = one["Name"], one.get("Value")
    operator = one.get("Operator", "Equals")
    if wanted is None:  # asks whether the property exists
        return None
    column = COLUMNS.get(name)
    if column is None:
        key = name.removeprefix("Tags.")
        is_tag = key != name and key not in ("Key", "Value")
        return Tagged(key, wanted) if is_tag and operator == "Equals" else None
    if operator == "Contains":
        return Term(column, "contains", wanted)
    if operator == "In":
        return Term(column, "in", tuple(sorted(choices_of(wanted))))
    if operator not in _SIGNS:
        return None
    is_time = column in ("created", "modified")
    return Term(column, _SIGNS[operator], iso_to_epoch(wanted) if is_time else wanted)
