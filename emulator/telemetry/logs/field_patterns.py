"""Filter patterns for events whose fields are separated by spaces: `[host, ..., status=4*]` (pure).

What stands between brackets or double quotes is one field. A pattern names all fields of an
event, `...` standing for any number of them (CloudWatch Logs user guide).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from emulator.telemetry.logs.conditions import (
    OPERATORS,
    Test,
    Tokens,
    number_in,
    read_condition,
    read_value_test,
)

_FIELD = re.compile(r'\[([^\]]*)\]|"([^"]*)"|(\S+)')
_ANY = "..."


@dataclass(frozen=True)
class _Columns:
    """The fields that a pattern names, and how many of them come before its `...`."""

    names: tuple[str, ...]
    before: int | None

    def of(self, message: str) -> Mapping[str, str] | None:
        """An event's fields by name; None if they are too few or too many."""
        fields = [match[match.lastindex or 0] for match in _FIELD.finditer(message)]
        missing = len(self.names) - len(fields)
        if missing > 0 or (missing < 0 and self.before is None):
            return None
        if self.before is not None:
            del fields[self.before : self.before - missing]
        return dict(zip(self.names, fields, strict=True))


def compile_fields(pattern: str) -> Callable[[str], bool]:
    """A test for messages, from what stands between the brackets; raises UnusablePattern."""
    tokens = Tokens(pattern)
    read = [_read_column(tokens)]
    while tokens.take(","):
        read.append(_read_column(tokens))
    columns = _columns(read)
    compared = {name for column in read for name in column.compared}
    if not tokens.ended or columns is None or not compared <= {*columns.names}:
        raise tokens.unusable()
    tests = [column.test for column in read if column.test is not None]

    def matches(message: str) -> bool:
        fields = columns.of(message)
        return fields is not None and all(test(fields) for test in tests)

    return matches


@dataclass(frozen=True)
class _Read:
    """One column of a pattern."""

    name: str
    """"" where the pattern leaves it out."""
    test: Test | None = None
    compared: tuple[str, ...] = ()
    """The columns that the test looks at."""


def _read_column(tokens: Tokens) -> _Read:
    if tokens.ended or tokens.sees(","):
        return _Read("")
    if not tokens.sees("(") and not tokens.sees(*OPERATORS, ahead=1):
        return _Read(tokens.value().text)
    compared: list[str] = []

    def read_comparison(tokens: Tokens) -> Test:
        name = tokens.word()
        if name is None:
            raise tokens.unusable()
        compared.append(name)
        compare = read_value_test(tokens)
        return lambda fields: compare(fields[name], number_in(fields[name]))

    test = read_condition(tokens, read_comparison)
    return _Read(compared[0], test, tuple(compared))


def _columns(read: Sequence[_Read]) -> _Columns | None:
    """None if two have the same name, or several are `...`."""
    names = [column.name or f"${number}" for number, column in enumerate(read, start=1)]
    if len(set(names)) < len(names):
        return None
    before = names.index(_ANY) if _ANY in names else None
    return _Columns(tuple(name for name in names if name != _ANY), before)
