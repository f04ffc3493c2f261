"""Whether a request breaks any constraint at all: a test for each shape, made once.

Nearly every request is valid; `validation.py` only has to find words for the others. Both
must agree, which the tests check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeAlias

from emulator.aws.validation.java_patterns import java_pattern
from emulator.aws.wire.service_models import Shape

PATTERN_CHECK_LIMIT = 65_536
"""Longer values already break their length; matching them could take for ever."""

Test: TypeAlias = Callable[[Any], bool]


@cache
def test_of(shape: Shape) -> Test | None:
    """The test of a shape's values; None where no value can be wrong."""
    own = _own_test(shape)
    below = _test_below(shape)
    if own and below:
        return lambda value: own(value) and below(value)
    return own or below


def _test_below(shape: Shape) -> Test | None:
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        return _structure_test(shape)
    if shape.type_name == "list":
        return _items_test(shape.member)
    if shape.type_name == "map":
        keys, values = _items_test(shape.key), _items_test(shape.value)
        return lambda value: keys(value) and values(value.values())
    return None


def _structure_test(shape: Shape) -> Test:
    required = tuple(shape.required_members)
    tests: dict[str, Test | None] = {}

    def holds(value: Mapping[str, Any]) -> bool:
        if not tests:  # not before it is needed: a shape may contain itself
            tests.update({name: test_of(member) for name, member in shape.members.items()})
        for name in required:
            if value.get(name) is None:
                return False
        for name, item in value.items():
            if item is not None and (test := tests.get(name)) is not None and not test(item):
                return False
        return True

    return holds


def _items_test(shape: Shape) -> Callable[[Iterable[Any]], bool]:
    test = test_of(shape)
    if test is None:
        return lambda items: all(item is not None for item in items)
    return lambda items: all(item is not None and test(item) for item in items)


def _own_test(shape: Shape) -> Test | None:
    """The test of a shape's own constraints."""
    limits, kind = shape.metadata, shape.type_name
    is_number = kind in ("integer", "long", "float", "double")
    if not is_number and kind not in ("string", "list", "map", "blob"):
        return None
    if "enum" in limits:
        allowed = frozenset(limits["enum"])
        return lambda value: value in allowed
    low, high = limits.get("min", 0 if not is_number else None), limits.get("max")
    pattern = java_pattern(limits["pattern"]) if kind == "string" and "pattern" in limits else None
    if is_number:
        if low is None and high is None:
            return None
        return lambda value: (low is None or value >= low) and (high is None or value <= high)
    if pattern is not None:
        matches = pattern.fullmatch
        return lambda value: (
            len(value) >= low
            and (high is None or len(value) <= high)
            and (len(value) > PATTERN_CHECK_LIMIT or matches(value) is not None)
        )
    if not low and high is None:
        return None
    return lambda value: len(value) >= low and (high is None or len(value) <= high)
