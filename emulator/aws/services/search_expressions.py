"""What Search asks for, as a test of a record: pure.

Rules, limits and the treatment of numbers are those of the API reference (Filter,
NestedFilters, SearchExpression). A record is a resource as Describe shows it.
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from emulator.aws.wire.json_protocol import iso_to_epoch
from emulator.aws.wire.service_models import Shape
from emulator.model.errors import ValidationError

ELEMENTS = 50
"""Filters, nested filters and expressions that one search may have."""

Record: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Record], bool]

_TEXT, _NUMBER, _TIME, _FLAG = "text", "number", "time", "flag"
_KINDS = {
    "string": _TEXT,
    "integer": _NUMBER,
    "long": _NUMBER,
    "float": _NUMBER,
    "double": _NUMBER,
    "timestamp": _TIME,
    "boolean": _FLAG,
}
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operators.eq,
    "GreaterThan": operators.gt,
    "GreaterThanOrEqualTo": operators.ge,
    "LessThan": operators.lt,
    "LessThanOrEqualTo": operators.le,
}


@dataclass(frozen=True)
class Property:
    """A named value of a record; a record may have none, or several where a list is on the way."""

    name: str
    kind: str
    """text, number, time or flag; "" for a structure, a list or a map, which only can exist."""
    path: tuple[str, ...]
    metric: bool = False

    def values(self, record: Record) -> list[Any]:
        if self.metric:
            return [m["Value"] for m in _metrics(record) if m["MetricName"] == self.path[-1]]
        return list(_reach(record, self.path))


def property_of(shape: Shape, name: str) -> Property:
    """Look a property up in the record's shape; raises ValidationError where there is none.

    `Metrics.<name>`, `HyperParameters.<name>`, `Environment.<name>` and `Tags.<key>` take all
    that follows as one name.
    """
    head, _, rest = name.partition(".")
    if head == "Metrics" and rest and "FinalMetricDataList" in shape.members:
        return Property(name, _NUMBER, ("Metrics", rest), metric=True)
    if head == "Tags" and rest not in ("", "Key", "Value") and "Tags" in shape.members:
        return Property(name, _TEXT, ("Tags.", rest))
    path: list[str] = []
    while name:
        shape = _element(shape)
        if shape.type_name == "map":
            return Property(name, _TEXT, (*path, name))
        head, _, name = name.partition(".")
        if shape.type_name != "structure" or head not in shape.members:
            raise ValidationError(f"Unknown property: {'.'.join([*path, head])}")
        path.append(head)
        shape = shape.members[head]
    return Property(".".join(path), _KINDS.get(_element(shape).type_name, ""), tuple(path))


def test_of(shape: Shape, expression: Mapping[str, Any]) -> Test:
    """The test that a SearchExpression describes; raises ValidationError."""
    _check_size(expression)
    return _expression(shape, expression)


def _expression(shape: Shape, expression: Mapping[str, Any]) -> Test:
    tests = [
        *(_filter(shape, one) for one in expression.get("Filters", ())),
        *(_nested(shape, one) for one in expression.get("NestedFilters", ())),
        *(_expression(shape, one) for one in expression.get("SubExpressions", ())),
    ]
    if not tests:
        raise ValidationError(
            "A search expression must have at least one subexpression, filter, or nested filter."
        )
    combine = any if expression.get("Operator") == "Or" else all
    return lambda record: combine(test(record) for test in tests)


def _nested(shape: Shape, nested: Mapping[str, Any]) -> Test:
    """One element of a list must pass all filters."""
    name = nested["NestedPropertyName"]
    listed = property_of(shape, name)
    tests = []
    for one in nested["Filters"]:
        if not one["Name"].startswith(f"{name}."):
            raise ValidationError(f"The property {one['Name']} is not part of {name}.")
        inner = _descend(shape, listed.path)
        tests.append(_filter(inner, {**one, "Name": one["Name"].removeprefix(f"{name}.")}))
    return lambda record: any(
        all(test(element) for test in tests) for element in listed.values(record)
    )


def _filter(shape: Shape, given: Mapping[str, Any]) -> Test:
    found = property_of(shape, given["Name"])
    operator, wanted = given.get("Operator"), given.get("Value")
    operator = operator or ("Exists" if wanted is None else "Equals")
    if operator == "Exists":
        return lambda record: bool(found.values(record))
    if operator == "NotExists":
        return lambda record: not found.values(record)
    if wanted is None:
        raise ValidationError(f"The operator {operator} needs a value to compare with.")
    if operator == "NotEquals":
        equal = _comparison(found, "Equals", wanted)
        return lambda record: not any(map(equal, found.values(record)))
    holds = _comparison(found, operator, wanted)
    return lambda record: any(map(holds, found.values(record)))


def _comparison(found: Property, operator: str, wanted: str) -> Callable[[Any], bool]:
    """The test of one value; raises ValidationError for what its kind does not have."""
    if operator in ("In", "Contains"):
        if found.kind != _TEXT:
            raise _unsupported(operator, found)
        if operator == "Contains":
            return lambda value: wanted in value
        choices = choices_of(wanted)
        return lambda value: value in choices
    if found.kind == _TEXT:
        return _text_comparison(found, operator, wanted)
    if found.kind in ("", _FLAG) and operator != "Equals":
        raise _unsupported(operator, found)
    target = _target(found, wanted)
    compare = _COMPARE[operator]
    return lambda value: compare(value, target)


def choices_of(wanted: str) -> set[str]:
    """The values of the operator In, which commas separate."""
    return {choice.strip() for choice in wanted.split(",")}


def _text_comparison(found: Property, operator: str, wanted: str) -> Callable[[Any], bool]:
    """Texts are equal or not; hyperparameters that are numbers are compared as numbers."""
    number = number_of(wanted) if found.path[0] == "HyperParameters" else None
    if number is None:
        if operator != "Equals":
            raise _unsupported(operator, found)
        return lambda value: bool(value == wanted)
    compare = _COMPARE[operator]
    # A whole number asks for whole numbers (API reference).
    whole = number.is_integer() and wanted.lstrip("+-").isdigit()

    def holds(value: str) -> bool:
        # SDK v2 puts quotes around what is a text to it.
        own = number_of(value.strip('"'))
        if own is None:
            return operator == "Equals" and value == wanted
        return compare(float(int(own)) if whole and math.isfinite(own) else own, number)

    return holds


def _target(found: Property, wanted: str) -> Any:
    if found.kind == _FLAG:
        if wanted.lower() not in ("true", "false"):
            raise ValidationError(f"The value of {found.name} must be true or false.")
        return wanted.lower() == "true"
    if found.kind == _TIME:
        try:
            return iso_to_epoch(wanted)
        except (ValueError, OverflowError):
            raise ValidationError(
                f"The value of {found.name} must be an ISO 8601 date-time string of the format "
                "YYYY-mm-dd'T'HH:MM:SS."
            ) from None
    number = number_of(wanted) if found.kind == _NUMBER else None
    if number is None:
        raise ValidationError(
            f"The value of {found.name} must be an integer or floating-point decimal."
            if found.kind
            else f"The property {found.name} has no value of its own to compare with."
        )
    return number


def number_of(text: str) -> float | None:
    """The number that a text is; None for other texts and for what has no order."""
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _unsupported(operator: str, found: Property) -> ValidationError:
    kind = f"{found.kind} property" if found.kind else "property"
    return ValidationError(f"The operator {operator} is not supported for the {kind} {found.name}.")


def _check_size(expression: Mapping[str, Any]) -> None:
    elements = list(_elements(expression))
    if len(elements) > ELEMENTS:
        raise ValidationError(
            f"A search expression can have at most {ELEMENTS} filters, nested filters and "
            "subexpressions."
        )
    # Names that may be asked for with Contains more than once belong to other resources.
    if sum(element.get("Operator") == "Contains" for element in elements) > 1:
        raise ValidationError("'CONTAINS' operator usage limit of 1 exceeded.")


def names_in(expression: Mapping[str, Any]) -> Iterator[str]:
    """The names of the properties that an expression asks for."""
    return (element["Name"] for element in _elements(expression) if "Name" in element)


def _elements(expression: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from expression.get("Filters", ())
    for nested in expression.get("NestedFilters", ()):
        yield nested
        yield from nested["Filters"]
    for inner in expression.get("SubExpressions", ()):
        yield inner
        yield from _elements(inner)


def _element(shape: Shape) -> Shape:
    while shape.type_name == "list":
        shape = shape.member
    return shape


def _descend(shape: Shape, path: Iterable[str]) -> Shape:
    for step in path:
        shape = _element(_element(shape).members[step])
    return shape


def _metrics(record: Record) -> Iterable[Mapping[str, Any]]:
    return record.get("FinalMetricDataList") or ()


def _reach(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """All values at the end of a path, through every list on the way."""
    if value is None:
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _reach(item, path)
    elif not path:
        yield value
    elif path[0] == "Tags.":
        yield from (tag["Value"] for tag in value.get("Tags", ()) if tag["Key"] == path[1])
    elif isinstance(value, Mapping):
        yield from _reach(value.get(path[0]), path[1:])
