"""Filter patterns for events that are JSON: `{ $.loss < 1 && $.epochs[0].name = "e*" }` (pure).

A comparison needs a text, a number or a truth value at the end of its path: with an object, a
list or nothing there, it does not hold, != no more than = (CloudWatch Logs user guide).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from emulator.telemetry.logs.conditions import Test, Tokens, read_condition, read_value_test

_PATH = re.compile(r"\$(?:\.[\w-]+(?:\[\d{1,9}\])*)+")
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")
_MISSING = object()


def compile_json(pattern: str) -> Callable[[str], bool]:
    """A test for messages, from what stands between the braces; raises UnusablePattern."""
    tokens = Tokens(pattern)
    test = read_condition(tokens, _read_comparison)
    if not tokens.ended:
        raise tokens.unusable()

    def matches(message: str) -> bool:
        if not message.lstrip().startswith("{"):
            return False
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return test(event)

    return matches


def _read_comparison(tokens: Tokens) -> Test:
    path = tokens.word() or ""
    if not _PATH.fullmatch(path):
        raise tokens.unusable()
    steps = [name or int(number) for name, number in _STEP.findall(path)]
    words = tokens.word()
    if words is None:
        compare = read_value_test(tokens)
        return lambda event: _compared(_at(event, steps), compare)
    statement = (words.upper(), (tokens.word() or "").upper())
    if statement == ("NOT", "EXISTS"):
        return lambda event: _at(event, steps) is _MISSING
    if statement[0] == "IS" and statement[1] in _CONSTANTS:
        constant = _CONSTANTS[statement[1]]
        return lambda event: _at(event, steps) is constant
    raise tokens.unusable()


_CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None}


def _at(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        if step not in _entries(value, step):
            return _MISSING
        value = value[step]
    return value


def _entries(value: Any, step: str | int) -> Collection[str | int]:
    """The steps of this kind that lead on from a value."""
    if isinstance(step, str):
        return value.keys() if isinstance(value, dict) else ()
    return range(len(value)) if isinstance(value, list) else ()


def _compared(value: Any, compare: Callable[[str, float | None], bool]) -> bool:
    if isinstance(value, str):
        return compare(value, None)
    if isinstance(value, (bool, int, float)):
        return compare(json.dumps(value), None if isinstance(value, bool) else value)
    return False
