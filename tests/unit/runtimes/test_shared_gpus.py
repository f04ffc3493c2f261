"""What instances that see each other's GPUs are told of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from emulator.runtimes.interpreter import write_command
from emulator.runtimes.nvidia_devices import list_only
from emulator.runtimes.shared_memory import SharedMemory

LISTING = "GPU 0: NVIDIA L40S (UUID: GPU-aa)\nGPU 1: NVIDIA L40S (UUID: GPU-bb)\n"


def ask(tmp_path: Path, *arguments: str) -> str:
    real, own = tmp_path / "real", tmp_path / "nvidia-smi"
    write_command(real, f'#!/bin/sh\n[ "$1" = -L ] && printf "{LISTING}" || echo "asked for $*"\n')
    write_command(own, list_only(("GPU-bb",), str(real)))
    return subprocess.run([own, *arguments], capture_output=True, text=True, check=True).stdout


def test_an_instance_counts_its_own_gpus_alone(tmp_path: Path) -> None:
    for question in ("-L", "--list-gpus"):
        assert ask(tmp_path, question) == "GPU 1: NVIDIA L40S (UUID: GPU-bb)\n"


def test_any_other_question_is_passed_on(tmp_path: Path) -> None:
    assert ask(tmp_path, "-q", "-x") == "asked for -q -x\n"


def test_memory_that_a_killed_emulator_left_is_given_back(tmp_path: Path) -> None:
    shm, state = tmp_path / "shm", tmp_path / "state"
    shm.mkdir()
    (shm / "another-programs").touch()
    left = Path(SharedMemory(state, shm)._prefix + "left")
    (shm / left).mkdir()
    SharedMemory(state, shm)
    assert [path.name for path in shm.iterdir()] == ["another-programs"]
