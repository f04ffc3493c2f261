from __future__ import annotations

import signal

from emulator.cli.up import Ending, at_ctrl_c
from emulator.settings import Settings


def test_the_first_signal_ends_and_the_second_one_does_not_wait() -> None:
    left: list[int] = []
    ending = Ending(left.append)
    ending(signal.SIGINT, None)
    assert (ending.asked.is_set(), left) == (True, [])
    ending(signal.SIGINT, None)
    assert left == [130]


def test_what_is_said_of_ctrl_c_is_what_happens() -> None:
    lasting, other = {"runtime": {"lasting": True}}, {"runtime": {"lasting": False}}
    assert "go on" in at_ctrl_c(Settings(), lasting)
    assert "what runs" in at_ctrl_c(Settings(leave_jobs=False), lasting)
    assert "what runs" in at_ctrl_c(Settings(), other)
