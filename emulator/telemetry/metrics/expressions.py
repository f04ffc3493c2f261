"""Metric math as it is written: from text to a tree (pure).

The grammar is that of the CloudWatch user guide, "Metric math syntax and functions".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z][A-Za-z0-9_]*)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<mark>&&|\|\||==|!=|<=|>=|[-+*/^<>()\[\],])
    )""",
    re.VERBOSE,
)
_LEVELS: Sequence[Sequence[str]] = (
    ("||", "OR"),
    ("&&", "AND"),
    ("==", "!=", "<=", ">=", "<", ">"),
    ("+", "-"),
    ("*", "/"),
)
"""Operators from the loosest to the closest; ^ and the sign are closer still."""
_SAME = {"OR": "||", "AND": "&&"}


class UnusableExpression(ValueError):
    """The text is no expression, or one that has no value here."""


@dataclass(frozen=True)
class Number:
    """A number as it stands there."""

    value: float


@dataclass(frozen=True)
class Text:
    """What is in quotes."""

    value: str


@dataclass(frozen=True)
class Name:
    """The id of a metric or an expression, or a keyword among arguments."""

    value: str


@dataclass(frozen=True)
class Operation:
    """An operator between two values; a sign has 0 on its left."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    """A function and what it is given."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Listing:
    """[a, b]: series as an array."""

    items: tuple[Node, ...]


Node: TypeAlias = "Number | Text | Name | Operation | Call | Listing"


def parse(text: str) -> Node:
    """Raises UnusableExpression."""
    reader = _Reader(text)
    node = reader.level(0)
    reader.expect("")
    return node


class _Reader:
    def __init__(self, text: str):
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._unusable()
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind]))
            position = match.end()
        self._tokens.append(("end", ""))
        self._tokens.reverse()

    def level(self, number: int) -> Node:
        """Everything that is held together at least as closely as these operators do."""
        if number == len(_LEVELS):
            return self._signed()
        node = self.level(number + 1)
        while (operator := self._take(*_LEVELS[number])) is not None:
            node = Operation(_SAME.get(operator, operator), node, self.level(number + 1))
        return node

    def expect(self, mark: str) -> None:
        if self._tokens[-1][1] != mark or self._tokens[-1][0] not in ("mark", "end"):
            raise self._unusable()
        self._tokens.pop()

    def _signed(self) -> Node:
        if self._take("-") is not None:
            return Operation("-", Number(0.0), self._signed())
        base = self._atom()
        return base if self._take("^") is None else Operation("^", base, self._signed())

    def _atom(self) -> Node:
        kind, text = self._tokens.pop()
        if kind == "number":
            return Number(float(text))
        if kind == "text":
            return Text(text[1:-1])
        if kind == "name":
            return Name(text) if self._take("(") is None else Call(text, self._items(")"))
        if text == "[":
            return Listing(self._items("]"))
        if text != "(":
            raise self._unusable()
        inner = self.level(0)
        self.expect(")")
        return inner

    def _items(self, closing: str) -> tuple[Node, ...]:
        if self._take(closing) is not None:
            return ()
        items = [self.level(0)]
        while self._take(",") is not None:
            items.append(self.level(0))
        self.expect(closing)
        return tuple(items)

    def _take(self, *texts: str) -> str | None:
        kind, text = self._tokens[-1]
        if kind not in ("mark", "name") or text not in texts:
            return None
        self._tokens.pop()
        return text

    def _unusable(self) -> UnusableExpression:
        return UnusableExpression(f"The expression {self._text} cannot be read.")
