"""Whoever waits for the end of a lifeline hears it when its last holder has let go."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from emulator.lifeline import Lifeline, when_unused


def test_the_last_one_to_let_go_ends_it(tmp_path: Path) -> None:
    file, ended = tmp_path / "lifeline", threading.Event()
    first, second = Lifeline(file), Lifeline(file)
    when_unused(file, ended.set)
    first.let_go()
    assert not ended.is_set()
    second.let_go()
    assert ended.wait(30)


def test_a_holder_that_is_killed_has_let_go(tmp_path: Path) -> None:
    file, ended = tmp_path / "lifeline", threading.Event()
    code = (
        "import pathlib, sys, time; from emulator.lifeline import Lifeline;"
        "held = Lifeline(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    when_unused(file, ended.set)
    assert not ended.is_set()
    holder.kill()
    holder.communicate()
    assert ended.wait(30)
