"""Prometheus' text format."""

from __future__ import annotations

import re

from emulator.web.prometheus import family

LINE = re.compile(r'[a-z_]+(\{[a-z]+="([^"\\\n]|\\.)*"(,[a-z]+="([^"\\\n]|\\.)*")*\})? [0-9.e+-]+')


def test_a_family_has_its_help_its_type_and_its_values() -> None:
    text = "".join(family("jobs", "Jobs.", [({"kind": "a", "status": "b"}, 3), ({}, 0.25)]))
    assert text.splitlines() == [
        "# HELP sagemaker_emulator_jobs Jobs.",
        "# TYPE sagemaker_emulator_jobs gauge",
        'sagemaker_emulator_jobs{kind="a",status="b"} 3',
        "sagemaker_emulator_jobs 0.25",
    ]


def test_labels_are_escaped_and_large_numbers_are_whole() -> None:
    text = "".join(family("x", "X.", [({"job": 'a"b\\c\nd'}, 85_520_809_984)]))
    line = text.splitlines()[-1]
    assert LINE.fullmatch(line)
    assert line.endswith(" 85520809984")


def test_nothing_is_said_of_what_has_no_values() -> None:
    assert list(family("x", "X.", [])) == []
