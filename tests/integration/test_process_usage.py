"""What processes use, read of real ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emulator.drivers.base import Usage
from emulator.drivers.process.usage import usage_of_trees

MEBIBYTE = 1024 * 1024
# A child that works and is waited for, then one that holds memory.
TREE = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "sum(range(10**7))"])
subprocess.run([sys.executable, "-c", "x = b'x' * (80 << 20); print('ready', flush=True); input()"])
"""


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_tree_of_processes() -> None:
    with running(TREE) as process:
        assert process.stdout.readline() == b"ready\n"
        usage = usage_of_trees({"algo-1": process.pid})["algo-1"]
        # The child that has ended counts as well.
        assert usage.cpu_seconds > 0.05
        assert 80 * MEBIBYTE < usage.memory_bytes < 200 * MEBIBYTE
        assert usage.memory_limit > 256 * MEBIBYTE


def test_work_shows_and_rest_does_not() -> None:
    busy, idle = "while True: pass", "print('ready', flush=True); input()"
    with running(busy) as one, running(idle) as other:
        other.stdout.readline()
        roots = {"busy": one.pid, "idle": other.pid}
        before = usage_of_trees(roots)

        def worked(now: dict[str, Usage], name: str) -> float:
            return now[name].cpu_seconds - before[name].cpu_seconds

        until(lambda: worked(usage_of_trees(roots), "busy") > 0.3)
        assert worked(usage_of_trees(roots), "idle") < 0.1


def test_who_has_ended_is_left_out() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert usage_of_trees({"gone": process.pid}) == {}
