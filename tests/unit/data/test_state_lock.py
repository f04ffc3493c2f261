"""One emulator a state directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from emulator.data.state_lock import StateLock
from emulator.model.errors import SetupError


class Clock:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps += 1


def take(path: Path, clock: Clock) -> StateLock:
    return StateLock.take(path, wait=1, clock=clock, sleep=clock.sleep)


def test_the_owner_is_named_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    held = take(tmp_path / "lock", clock)
    assert clock.naps == 0
    with pytest.raises(SetupError, match=rf"\(process {os.getpid()}\) uses {tmp_path}") as caught:
        take(tmp_path / "lock", clock)
    assert "--state-dir" in caught.value.remedy
    assert 1 <= clock.now < 1.1
    held.release()
    take(tmp_path / "lock", clock).release()


def test_a_child_that_inherited_it_holds_it_until_it_ends(tmp_path: Path) -> None:
    held = take(tmp_path / "lock", Clock())
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[held.descriptor])
    held.release()
    with pytest.raises(SetupError):
        take(tmp_path / "lock", Clock())
    child.communicate()
    take(tmp_path / "lock", Clock()).release()
