"""CloudWatch Logs filter patterns for unstructured events: terms that a message contains.

`word "a phrase"` are all required, `-word` excludes, and of `?one ?two` any is enough;
`?` terms beside others are ignored (CloudWatch Logs user guide, filter pattern syntax).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TERM = re.compile(r'\s*([-?]?)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
_WORD = re.compile(r"\w+")


class UnusablePattern(ValueError):
    """The text is not a filter pattern, or one of a kind that is not built."""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A test for messages; raises UnusablePattern."""
    text = pattern.strip()
    if text.startswith(("{", "[")) or (text.startswith("%") and text.endswith("%")):
        raise UnusablePattern(
            "JSON, space-delimited and regular expression filter patterns are not built in the "
            'emulator; use terms, such as: error "exit code" -warning ?one ?two'
        )
    terms: dict[str, list[str]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise UnusablePattern(f"Invalid filter pattern: {pattern}")
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
