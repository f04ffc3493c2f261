"""A few of the rounds in which the emulator is killed; see kill_rounds.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from kill_rounds import run


@pytest.mark.timeout(600)
@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_nothing_is_lost_or_left_when_the_emulator_is_killed(runtime: str, tmp_path: Path) -> None:
    wrong = {one.phase: one.wrong for one in run(runtime, seed=7, rounds=6, root=tmp_path)}
    assert not any(wrong.values()), wrong
