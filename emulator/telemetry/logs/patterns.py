"""CloudWatch Logs filter patterns: of JSON, of fields, and of terms that a message contains.

`word "a phrase"` are all required, `-word` excludes, and of `?one ?two` any is enough;
`?` terms beside others are ignored (CloudWatch Logs user guide, filter pattern syntax).
The other two kinds are in modules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from emulator.telemetry.logs.conditions import UnusablePattern, no_regex
from emulator.telemetry.logs.field_patterns import compile_fields
from emulator.telemetry.logs.json_patterns import compile_json

__all__ = ["UnusablePattern", "compile_pattern"]

_TERM = re.compile(r'\s*([-?]?)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
_WORD = re.compile(r"\w+")


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A test for messages; raises UnusablePattern."""
    text = pattern.strip()
    if text.startswith("{") and text.endswith("}"):
        return compile_json(text[1:-1])
    if text.startswith("[") and text.endswith("]"):
        return compile_fields(text[1:-1])
    if text.startswith("%"):
        raise no_regex()
    return _compile_terms(text)


def _compile_terms(text: str) -> Callable[[str], bool]:
    terms: dict[str, list[str]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise UnusablePattern(f"Invalid filter pattern: {text}")
        sign, phrase, word = match.groups()
        if word is not None and not _WORD.fullmatch(word):
            raise UnusablePattern(f"Invalid character(s) in term '{word}'")
        terms[sign].append(word or re.sub(r"\\(.)", r"\1", phrase))
        position = match.end()
    return lambda message: _matches(message, terms[""], terms["-"], terms["?"])


def _matches(message: str, required: list[str], excluded: list[str], any_of: list[str]) -> bool:
    if required or excluded:
        wanted = all(term in message for term in required)
        return wanted and not any(term in message for term in excluded)
    return not any_of or any(term in message for term in any_of)
