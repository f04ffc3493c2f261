"""What instances are told of GPUs, their own and others'."""

from __future__ import annotations

import subprocess
from pathlib import Path

from emulator.runtimes.interpreter import write_command
from emulator.runtimes.nvidia_devices import list_only, missing_device
from emulator.runtimes.shared_memory import SharedMemory

LISTING = (
    "GPU 0: NVIDIA A100 (UUID: GPU-aa)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-a0)\n"
    "  MIG 3g.20gb     Device  1: (UUID: MIG-a1)\n"
    "GPU 1: NVIDIA L40S (UUID: GPU-bb)\n"
    "GPU 2: NVIDIA L40S (UUID: GPU-cc)\n"
)


def ask(tmp_path: Path, gpus: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    real, own = tmp_path / "real driver", tmp_path / "nvidia-smi"
    write_command(
        real, f"#!/bin/sh\n[ \"$1\" != -L ] && echo asked for $* || cat <<'END'\n{LISTING}END\n"
    )
    write_command(own, list_only(gpus, str(real)))
    done = subprocess.run([own, *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout


def test_an_instance_counts_its_own_gpus_alone(tmp_path: Path) -> None:
    for question in ("-L", "--list-gpus"):
        said = ask(tmp_path, ("GPU-bb",), question)
        assert said == (0, "GPU 1: NVIDIA L40S (UUID: GPU-bb)\n")
    assert ask(tmp_path, ("GPU-bb", "GPU-cc"), "-L")[1].count("GPU ") == 2


def test_a_slice_is_listed_below_its_gpu_which_is_what_launchers_count(tmp_path: Path) -> None:
    assert ask(tmp_path, ("MIG-a1",), "-L") == (
        0,
        "GPU 0: NVIDIA A100 (UUID: GPU-aa)\n  MIG 3g.20gb     Device  1: (UUID: MIG-a1)\n",
    )


def test_an_instance_without_a_gpu_is_told_of_none(tmp_path: Path) -> None:
    assert ask(tmp_path, (), "--list-gpus") == (6, "No devices were found\n")


def test_any_other_question_is_passed_on(tmp_path: Path) -> None:
    assert ask(tmp_path, ("GPU-bb",), "-q", "-x") == (0, "asked for -q -x\n")


def test_what_cuda_needs_is_made_outside_where_a_setuid_helper_still_works(tmp_path: Path) -> None:
    assert missing_device(tmp_path) is None  # without a driver nothing is missing
    (tmp_path / "nvidiactl").touch()
    assert missing_device(tmp_path, ("touch", str(tmp_path / "nvidia-uvm"))) is None
    assert (tmp_path / "nvidia-uvm").exists()
    assert missing_device(tmp_path, ("/nonexistent/helper",)) is None  # it is there already


def test_what_cannot_be_made_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    for helper, remedy in (("false", "false -u"), ("/nonexistent/helper", "modprobe nvidia-uvm")):
        trouble = missing_device(tmp_path, (helper, "-u"))
        assert trouble
        assert trouble.remedy == f"As root: {remedy}"


def test_memory_that_a_killed_emulator_left_is_given_back(tmp_path: Path) -> None:
    shm, state = tmp_path / "shm", tmp_path / "state"
    shm.mkdir()
    (shm / "another-programs").touch()
    left = Path(SharedMemory(state, shm)._prefix + "left")
    (shm / left).mkdir()
    SharedMemory(state, shm)
    assert [path.name for path in shm.iterdir()] == ["another-programs"]
