"""Conditions of filter patterns: comparisons, && and ||, parentheses (pure).

&& binds more closely than || (CloudWatch Logs user guide, filter pattern syntax).
"""

from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Test: TypeAlias = Callable[[Any], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>&&|\|\||>=|<=|!=|=!|[=<>(),])
      | "(?P<quoted>(?:[^"\\]|\\.)*)"
      | (?P<word>[^\s()&|=<>!",]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
}
_UNEQUAL = ("!=", "=!")
OPERATORS = ("=", *_UNEQUAL, *_ORDERS)


class UnusablePattern(ValueError):
    """The text is not a filter pattern, or one of a kind that is not built."""


def no_regex() -> UnusablePattern:
    """The error for %…%: searching a long line with one could hold up all other requests."""
    return UnusablePattern(
        "Regular expressions in filter patterns are not built in the emulator; use terms, or "
        "compare with * at the start or the end of a text."
    )


@dataclass(frozen=True)
class Token:
    """A piece of a pattern; kind is mark, quoted, word or end."""

    kind: str
    text: str


class Tokens:
    """The pieces of a pattern, taken one after the other."""

    def __init__(self, text: str):
        """Raises UnusablePattern."""
        self._text = text
        self._tokens: list[Token] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.unusable()
            kind = str(match.lastgroup)
            if kind == "word" and match[kind].startswith("%"):
                raise no_regex()
            self._tokens.append(Token(kind, match[kind]))
            position = match.end()
        self._tokens.append(Token("end", ""))
        self._next = 0

    @property
    def ended(self) -> bool:
        return self._tokens[self._next].kind == "end"

    def sees(self, *marks: str, ahead: int = 0) -> bool:
        """Whether one of these marks comes next, or so many tokens later."""
        token = self._tokens[min(self._next + ahead, len(self._tokens) - 1)]
        return token.kind == "mark" and token.text in marks

    def take(self, *marks: str) -> str | None:
        """The next token, if it is one of these marks."""
        if not self.sees(*marks):
            return None
        self._next += 1
        return self._tokens[self._next - 1].text

    def value(self) -> Token:
        """The next token, which must be a word or a quoted text; raises UnusablePattern."""
        token = self._tokens[self._next]
        if token.kind not in ("word", "quoted"):
            raise self.unusable()
        self._next += 1
        return token

    def word(self) -> str | None:
        """The next token's text, if it is a word."""
        return self.value().text if self._tokens[self._next].kind == "word" else None

    def unusable(self) -> UnusablePattern:
        """The error for a pattern that makes no sense here."""
        return UnusablePattern(f"Invalid filter pattern: {self._text}")


def read_condition(tokens: Tokens, read_comparison: Callable[[Tokens], Test]) -> Test:
    """What may be joined by && and ||; raises UnusablePattern."""
    choices = [_read_all(tokens, read_comparison)]
    while tokens.take("||"):
        choices.append(_read_all(tokens, read_comparison))
    return choices[0] if len(choices) == 1 else lambda event: any(one(event) for one in choices)


def _read_all(tokens: Tokens, read_comparison: Callable[[Tokens], Test]) -> Test:
    parts = [_read_one(tokens, read_comparison)]
    while tokens.take("&&"):
        parts.append(_read_one(tokens, read_comparison))
    return parts[0] if len(parts) == 1 else lambda event: all(one(event) for one in parts)


def _read_one(tokens: Tokens, read_comparison: Callable[[Tokens], Test]) -> Test:
    if not tokens.take("("):
        return read_comparison(tokens)
    inner = read_condition(tokens, read_comparison)
    if not tokens.take(")"):
        raise tokens.unusable()
    return inner


def read_value_test(tokens: Tokens) -> Callable[[str, float | None], bool]:
    """An operator and what to compare with: a test of a value's text and number.

    Numbers are compared as numbers, if both sides are; `*` at an end of a text stands for any
    text, elsewhere for itself. Raises UnusablePattern.
    """
    operator = tokens.take(*OPERATORS)
    if operator is None:
        raise tokens.unusable()
    wanted = tokens.value()
    number = float(wanted.text) if _is_number(wanted) else None
    if operator in _ORDERS:
        if number is None:
            raise tokens.unusable()
        compare, limit = _ORDERS[operator], number
        return lambda _, own: own is not None and compare(own, limit)
    looks_like = _text_test(wanted.text)
    is_equal = operator not in _UNEQUAL

    def holds(text: str, own: float | None) -> bool:
        equal = looks_like(text) if number is None or own is None else own == number
        return equal is is_equal

    return holds


def number_in(text: str) -> float | None:
    """The number that a text is, if it is one."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _is_number(token: Token) -> bool:
    return token.kind == "word" and _NUMBER.fullmatch(token.text) is not None


def _text_test(wanted: str) -> Callable[[str], bool]:
    if wanted == "*":
        return lambda _: True
    wanted = re.sub(r"\\(.)", r"\1", wanted)
    starts, ends = wanted.endswith("*"), wanted.startswith("*")
    core = wanted[ends : len(wanted) - starts]
    if starts and ends:
        return lambda text: core in text
    if starts:
        return lambda text: text.startswith(core)
    if ends:
        return lambda text: text.endswith(core)
    return lambda text: text == core
