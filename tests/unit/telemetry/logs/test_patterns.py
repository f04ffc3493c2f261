from __future__ import annotations

import pytest

from emulator.telemetry.logs.patterns import UnusablePattern, compile_pattern

BAD_REQUEST = "[ERROR 400] BAD REQUEST"
ARGUMENTS = "[ERROR 419] MISSING ARGUMENTS"
WARNING = "[WARN 7] SLOW"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", [BAD_REQUEST, ARGUMENTS, WARNING]),
        ("ERROR", [BAD_REQUEST, ARGUMENTS]),
        ("error", []),
        ("ERROR ARGUMENTS", [ARGUMENTS]),
        ('"BAD REQUEST"', [BAD_REQUEST]),
        ('"[WARN"', [WARNING]),
        ("ERROR -ARGUMENTS", [BAD_REQUEST]),
        ("ERROR - ARGUMENTS", [BAD_REQUEST]),
        ("?SLOW ?BAD", [BAD_REQUEST, WARNING]),
        ("?SLOW ?BAD ARGUMENTS", [ARGUMENTS]),
        ('-"BAD REQUEST"', [ARGUMENTS, WARNING]),
    ],
)
def test_terms(pattern: str, found: list[str]) -> None:
    matches = compile_pattern(pattern)
    assert [text for text in (BAD_REQUEST, ARGUMENTS, WARNING) if matches(text)] == found


def test_quotes_may_be_escaped() -> None:
    assert compile_pattern(r'"say \"hi\""')('say "hi" to')


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("%ERR.R%", "not built"),
        ("a/b", "Invalid character"),
        ('"open', "Invalid filter pattern"),
    ],
)
def test_what_cannot_be_used_is_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(UnusablePattern, match=complaint):
        compile_pattern(pattern)
