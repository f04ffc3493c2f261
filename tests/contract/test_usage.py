"""What every runtime tells of what its instances use."""

from __future__ import annotations

import time

from runtime_harness import PATIENCE, Launch

from emulator.drivers.base import Measured, Usage

MEBIBYTE = 1024 * 1024
HOLD = "import time; held = b'x' * (90 << 20); print('held', flush=True); time.sleep(60)"


def test_work_and_memory_of_each_instance(launch: Launch) -> None:
    run = launch(
        # The work is done in a child that ends, and one that goes on.
        "timeout 1 sh -c 'while :; do :; done'; echo worked; while :; do :; done",
        f'python3 -c "{HOLD}"',
    )
    fleet = run.fleet
    assert isinstance(fleet, Measured)
    run.await_text("worked", "algo-1")
    run.await_text("held", "algo-2")
    before = fleet.usage()
    assert set(before) == {"algo-1", "algo-2"}
    assert before["algo-1"].cpu_seconds > 0.05
    for usage in before.values():
        assert 0 < usage.memory_bytes < usage.memory_limit
    assert before["algo-2"].memory_bytes > 90 * MEBIBYTE
    deadline = time.monotonic() + PATIENCE

    def worked(now: dict[str, Usage]) -> float:
        return now["algo-1"].cpu_seconds - before["algo-1"].cpu_seconds

    while worked(dict(fleet.usage())) < 0.2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.fleet.kill()
    run.exits()
    assert fleet.usage() == {}


def test_an_instance_that_has_ended_is_left_out(launch: Launch) -> None:
    run = launch("true", "sleep 60")
    run.exits(1)
    fleet = run.fleet
    assert isinstance(fleet, Measured)
    assert set(fleet.usage()) == {"algo-2"}
