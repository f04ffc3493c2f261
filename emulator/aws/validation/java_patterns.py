"""Java's regular expressions, which AWS's models are written in, as Python's."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

log = logging.getLogger(__name__)

_POSIX = {
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Lower": "a-z",
    "Upper": "A-Z",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Space": r" \t-\r",
    "ASCII": r"\x00-\x7f",
}
_PROPERTY = re.compile(r"\\p\{(\w+)\}")
_SURROGATES = re.compile(r"\\u[dD]([89abAB])([0-9a-fA-F]{2})\\u[dD]([c-fC-F])([0-9a-fA-F]{2})")
_SHORTHAND_RANGE = re.compile(r"(\\[wdsWDS])-(?=[^\]])")


@cache
def java_pattern(pattern: str) -> re.Pattern[str] | None:
    """The compiled pattern; None if Python cannot express it (the value is then not checked)."""
    text = _SURROGATES.sub(_code_point, pattern)
    text = _SHORTHAND_RANGE.sub(r"\1\\-", text)
    if "&&" in text:  # an intersection of classes
        return None
    try:
        text = _in_or_out_of_class(text)
        # Java's \w and \d mean ASCII.
        return re.compile(text, re.ASCII)
    except (re.error, KeyError):
        log.debug("pattern %s is not checked", pattern)
        return None


def _in_or_out_of_class(text: str) -> str:
    """Properties as ranges; outside of a character class they get brackets of their own."""
    parts = []
    position = 0
    for match in _PROPERTY.finditer(text):
        before = text[position : match.start()]
        parts.append(before)
        ranges = _ranges(match[1])
        parts.append(ranges if _class_is_open(text[: match.start()]) else f"[{ranges}]")
        position = match.end()
    return "".join([*parts, text[position:]])


def _class_is_open(text: str) -> bool:
    bare = re.sub(r"\\.", "", text)
    return bare.rfind("[") > bare.rfind("]")


def _ranges(name: str) -> str:
    return _POSIX[name] if name in _POSIX else _category(name.removeprefix("Is"))


@cache
def _category(name: str) -> str:
    """All characters of a Unicode category (L, M, Z, …, or Lu) as ranges of a class."""
    ranges = [
        f"\\U{first:08x}-\\U{last:08x}"
        for first, last, category in _category_runs()
        if category.startswith(name)
    ]
    if not ranges:
        raise KeyError(name)
    return "".join(ranges)


@cache
def _category_runs() -> list[tuple[int, int, str]]:
    """First and last code point of each run of one category; once, as it looks at all of them."""
    runs = []
    end = 0
    for category, run in groupby(map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))):
        first, end = end, end + sum(1 for _ in run)
        runs.append((first, end - 1, category))
    return runs


def _code_point(match: re.Match[str]) -> str:
    high, low = int(f"d{match[1]}{match[2]}", 16), int(f"d{match[3]}{match[4]}", 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"
