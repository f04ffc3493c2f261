"""Java's regular expressions, which AWS's models are written in, as Python's."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
from functools import cache

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
    ranges = []
    start = None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code)).startswith(name)
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    if not ranges:
        raise KeyError(name)
    return "".join(ranges)


def _code_point(match: re.Match[str]) -> str:
    high, low = int(f"d{match[1]}{match[2]}", 16), int(f"d{match[3]}{match[4]}", 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"
