from __future__ import annotations

import signal

import pytest

from emulator.cli.up import Ending, at_ctrl_c, offer_to_end_jobs
from emulator.settings import Settings

LASTING = {"runtime": {"lasting": True}, "jobs": {"running": 2}}


def test_the_first_signal_ends_and_the_second_one_ends_the_jobs_too() -> None:
    left: list[int] = []
    ending = Ending(left.append)
    ending(signal.SIGINT, None)
    assert (ending.asked.is_set(), ending.interrupted, ending.jobs.is_set()) == (True, True, False)
    ending(signal.SIGINT, None)
    assert (ending.jobs.is_set(), left) == (True, [])
    ending(signal.SIGINT, None)
    assert left == [130]


def test_a_signal_while_it_is_stopping_does_not_wait_for_that() -> None:
    left: list[int] = []
    ending = Ending(left.append)
    ending(signal.SIGTERM, None)
    ending.stopping = True
    ending(signal.SIGTERM, None)
    assert (ending.interrupted, ending.jobs.is_set(), left) == (False, False, [143])


def test_jobs_that_would_go_on_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    offer_to_end_jobs(Ending(), Settings(), LASTING, seconds=0)
    assert "2 jobs go on without the emulator" in capsys.readouterr().err
    offer_to_end_jobs(Ending(), Settings(), {**LASTING, "jobs": {"running": 0}})
    offer_to_end_jobs(Ending(), Settings(leave_jobs=False), LASTING)
    assert capsys.readouterr().err == ""


def test_what_is_said_of_ctrl_c_is_what_happens() -> None:
    lasting, other = {"runtime": {"lasting": True}}, {"runtime": {"lasting": False}}
    assert "go on" in at_ctrl_c(Settings(), lasting)
    assert "what runs" in at_ctrl_c(Settings(leave_jobs=False), lasting)
    assert "what runs" in at_ctrl_c(Settings(), other)
