from __future__ import annotations

import pytest

from emulator.web.jobs import next_name, whole_traceback

TEXT = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("x")
ValueError: x
next line
"""


@pytest.mark.parametrize(
    ("name", "following"),
    [("train-7", "train-8"), ("train", "train-2"), ("a-009", "a-10"), ("x" * 63, "x" * 61 + "-2")],
)
def test_the_name_of_a_job_that_runs_again(name: str, following: str) -> None:
    assert next_name(name) == following
    assert len(following) <= 63


def test_a_traceback_ends_with_its_exception() -> None:
    assert whole_traceback(TEXT.splitlines()) == TEXT.splitlines()[:4]
    assert whole_traceback(TEXT.splitlines()[:2]) == TEXT.splitlines()[:2]
