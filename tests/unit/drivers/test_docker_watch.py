from __future__ import annotations

from typing import Any

import pytest

from emulator.drivers.docker.gpus import count_gpus
from emulator.drivers.docker.watch import ENGINE_RESTARTED, epoch_of, exit_of
from emulator.model.plan import Exit


def state(code: int = 0, oom: bool = False) -> dict[str, Any]:
    return {"ExitCode": code, "OOMKilled": oom, "FinishedAt": "2026-01-02T03:04:05.5Z"}


AT = 1767323045.5


@pytest.mark.parametrize(
    ("found", "lost", "expected"),
    [
        (state(), "", Exit("algo-1", 0, AT)),
        (state(3), "", Exit("algo-1", 3, AT)),
        (state(137, oom=True), "", Exit("algo-1", 137, AT, out_of_memory=True)),
        # The engine also reports a child that was killed, though the command ended well.
        (state(0, oom=True), "", Exit("algo-1", 0, AT)),
        (state(137), ENGINE_RESTARTED, Exit("algo-1", 137, AT, lost=ENGINE_RESTARTED)),
        (state(0), ENGINE_RESTARTED, Exit("algo-1", 0, AT)),
    ],
)
def test_the_end_of_an_instance(found: dict[str, Any], lost: str, expected: Exit) -> None:
    assert exit_of("algo-1", found, lost) == expected


@pytest.mark.parametrize(
    ("timestamp", "epoch"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.25Z", 1.25),
        ("1970-01-01T00:00:01.123456789Z", 1.123456789),
        ("1970-01-01T02:00:00.5+02:00", 0.5),
        ("1969-12-31T23:00:00-01:00", 0.0),
    ],
)
def test_the_engines_timestamps(timestamp: str, epoch: float) -> None:
    assert epoch_of(timestamp) == pytest.approx(epoch, abs=1e-9)


@pytest.mark.parametrize(
    ("listing", "count"),
    [
        ("GPU 0: NVIDIA H100 (UUID: GPU-a)\nGPU 1: NVIDIA H100 (UUID: GPU-b)\n", 2),
        ("sh: 1: nvidia-smi: not found\n/dev/nvidia0\n/dev/nvidia1\n", 2),
        ("sh: 1: nvidia-smi: not found\nls: cannot access '/dev/nvidia[0-9]*'\n", 0),
        ("No devices found.\n", 0),
    ],
)
def test_counting_gpus(listing: str, count: int) -> None:
    assert count_gpus(listing) == count
