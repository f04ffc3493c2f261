"""The constraints of botocore's models, checked and reported as the service does.

botocore's own validator leaves out patterns, enumerations and maxima, and a client can be
told not to validate at all. All failures of a request come in one message (seen from the
service). Members of lists and maps that are plain values are reported at the list or map
itself, with every constraint of the member (seen from several services with the same
validator); members that are structures have a path of their own, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from emulator.aws.validation.java_patterns import java_pattern
from emulator.aws.validation.validity import PATTERN_CHECK_LIMIT, test_of
from emulator.aws.wire.service_models import Shape
from emulator.model.errors import ValidationError

_NESTED = ("structure", "list", "map")

VALUE_LIMIT = 8192
"""Characters of a wrong value that a message repeats."""
LISTED = 20
"""Failures that a message describes; it counts all."""


@dataclass(frozen=True)
class Failure:
    """One constraint that one value breaks."""

    path: str
    value: str | None
    constraint: str

    def __str__(self) -> str:
        value = "null" if self.value is None else f"'{self.value}'"
        return f"Value {value} at '{self.path}' failed to satisfy constraint: {self.constraint}"


def validate(
    shape: Shape | None,
    params: Mapping[str, Any],
    code: str | None = None,
    has_instance_type: Callable[[str], bool] = lambda _: False,
) -> None:
    """Raise one ValidationError that names every constraint the parameters break.

    `has_instance_type` knows instance types that the model does not list.
    """
    if shape is None or (test := test_of(shape)) is None or test(params):
        return
    failures = (
        failure
        for failure in failures_of(shape, params)
        if not (_is_instance_type(failure) and has_instance_type(failure.value or ""))
    )
    told = list(islice(failures, LISTED))
    if told:
        count = len(told) + sum(1 for _ in failures)
        plural, listed = "" if count == 1 else "s", "; ".join(map(str, told))
        error = ValidationError(f"{count} validation error{plural} detected: {listed}", code=code)
        error.hint = " ".join(filter(None, map(_hint, told)))
        raise error


def failures_of(shape: Shape, params: Mapping[str, Any]) -> Iterator[Failure]:
    """Every constraint that the parameters break, in the model's order."""
    return _structure(shape, params, "")


def _hint(failure: Failure) -> str:
    """The instance type that may have been meant."""
    if not _is_instance_type(failure) or failure.value is None:
        return ""
    known = failure.constraint.partition("[")[2].removesuffix("]").split(", ")
    near = get_close_matches(failure.value, known, n=1)
    return f"{failure.value} is no instance type. Did you mean {near[0]}?" if near else ""


def _is_instance_type(failure: Failure) -> bool:
    return failure.path.rpartition(".")[2] == "instanceType"


def _structure(shape: Shape, value: Mapping[str, Any], path: str) -> Iterator[Failure]:
    for name, member in shape.members.items():
        below = f"{path}.{_camel(name)}" if path else _camel(name)
        if value.get(name) is not None:
            yield from _value(member, value[name], below)
        elif name in shape.required_members:
            yield Failure(below, None, "Member must not be null")


def _value(shape: Shape, value: Any, path: str) -> Iterator[Failure]:
    for constraint in _broken(shape, value):
        yield Failure(path, java_text(value), constraint)
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        yield from _structure(shape, value, path)
    elif shape.type_name == "list":
        yield from _members(shape.member, value, path, value, "Member must satisfy constraint")
    elif shape.type_name == "map":
        keys, values = list(value), list(value.values())
        yield from _members(shape.key, keys, path, value, "Map keys must satisfy constraint")
        yield from _members(shape.value, values, path, value, "Map value must satisfy constraint")


def _members(
    shape: Shape, items: list[Any], path: str, container: Any, words: str
) -> Iterator[Failure]:
    if shape.type_name in _NESTED:
        for number, item in enumerate(items, start=1):
            if item is None:
                yield Failure(f"{path}.{number}.member", None, "Member must not be null")
            else:
                yield from _value(shape, item, f"{path}.{number}.member")
    elif any(item is None or any(_broken(shape, item)) for item in items):
        constraints = ", ".join(_constraints(shape)) or "Member must not be null"
        yield Failure(path, java_text(container), f"{words}: [{constraints}]")


def _broken(shape: Shape, value: Any) -> Iterator[str]:
    limits = shape.metadata
    if shape.type_name in ("integer", "long", "float", "double"):
        measured, words = value, "value"
    elif shape.type_name in ("string", "list", "map", "blob"):
        measured, words = len(value), "length"
    else:
        return
    if "enum" in limits:
        if value not in limits["enum"]:
            yield _enum(limits)
        return
    if "pattern" in limits and shape.type_name == "string" and not _matches(limits, value):
        yield _pattern(limits)
    if "max" in limits and measured > limits["max"]:
        yield _maximum(words, limits)
    if "min" in limits and measured < limits["min"]:
        yield _minimum(words, limits)


def _constraints(shape: Shape) -> Iterator[str]:
    limits = shape.metadata
    words = "length" if shape.type_name in ("string", "blob") else "value"
    if "enum" in limits:
        yield _enum(limits)
        return
    if "max" in limits:
        yield _maximum(words, limits)
    if "min" in limits:
        yield _minimum(words, limits)
    if "pattern" in limits:
        yield _pattern(limits)


def _matches(limits: Mapping[str, Any], value: str) -> bool:
    pattern = java_pattern(limits["pattern"])
    # The whole value has to match, also where the pattern has no anchors (seen: a name that
    # is only too long breaks its pattern as well).
    return pattern is None or len(value) > PATTERN_CHECK_LIMIT or bool(pattern.fullmatch(value))


def _enum(limits: Mapping[str, Any]) -> str:
    return f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]"


def _pattern(limits: Mapping[str, Any]) -> str:
    return f"Member must satisfy regular expression pattern: {limits['pattern']}"


def _maximum(words: str, limits: Mapping[str, Any]) -> str:
    return f"Member must have {words} less than or equal to {limits['max']}"


def _minimum(words: str, limits: Mapping[str, Any]) -> str:
    return f"Member must have {words} greater than or equal to {limits['min']}"


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def java_text(value: Any) -> str:
    """A value as Java's toString prints it: `[a, b]`, `{key=value}`, `true`.

    Of a longer one the first VALUE_LIMIT characters, and an ellipsis.
    """
    text, length = "", 0
    for piece in _pieces(value):
        text += piece[: VALUE_LIMIT + 1 - length]
        length = len(text)
        if length > VALUE_LIMIT:
            return f"{text[:VALUE_LIMIT]}..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield f"{', ' if number else ''}{key}="
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, bool):
        yield str(value).lower()
    else:
        yield "null" if value is None else str(value)
