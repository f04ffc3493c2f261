"""What instances are told of GPUs, their own and others'."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from emulator.drivers.nvidia_devices import list_only, missing_device
from emulator.drivers.process.shared_memory import SharedMemory
from emulator.drivers.scratch_files import write_command
from emulator.model.errors import SetupError

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


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """What a driver with one MIG slice tells, and its helper in the same place.

    The helper makes a file for each thing that it is asked for.
    """
    access = tmp_path / "capabilities/gpu0/mig/gi1/access"
    access.parent.mkdir(parents=True)
    access.write_text("DeviceFileMinor: 12\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
    (tmp_path / "nvidia-caps").mkdir()
    write_command(
        tmp_path / "helper",
        "#!/bin/sh\ncd ${0%/*}\n"
        'case "$*" in\n'
        '"-u -c=0") touch nvidia-uvm ;;\n'
        '"-f "*/gi1/access) touch nvidia-caps/nvidia-cap12 ;;\n'
        "esac\n",
    )
    return tmp_path


def missing(driver: Path, *uuids: str, helper: str = "helper") -> SetupError | None:
    return missing_device(uuids, driver, driver, str(driver / helper))


def made(driver: Path) -> set[str]:
    return {path.name for path in (*driver.iterdir(), *(driver / "nvidia-caps").iterdir())}


def test_what_cuda_needs_is_made_outside_where_a_setuid_helper_still_works(driver: Path) -> None:
    assert missing(driver, "GPU-a") is None  # without a driver nothing is missing
    (driver / "nvidiactl").touch()
    assert missing(driver) is None
    assert not made(driver) & {"nvidia-uvm", "nvidia-cap12"}
    assert missing(driver, "GPU-a") is None
    assert made(driver) & {"nvidia-uvm", "nvidia-cap12"} == {"nvidia-uvm"}
    assert missing(driver, "MIG-a") is None
    assert "nvidia-cap12" in made(driver)
    assert missing(driver, "MIG-a", helper="none") is None  # all of it is there already


def test_what_cannot_be_made_is_told_with_its_remedy(driver: Path) -> None:
    (driver / "nvidiactl").touch()
    trouble = missing(driver, "GPU-a", helper="none")
    assert trouble
    assert trouble.problem.startswith(f"{driver}/nvidia-uvm is missing")
    assert trouble.remedy == f"As root: {driver}/none -u -c=0"


def test_memory_that_a_killed_emulator_left_is_given_back(tmp_path: Path) -> None:
    shm, state = tmp_path / "shm", tmp_path / "state"
    shm.mkdir()
    (shm / "another-programs").touch()
    prefix = SharedMemory(state, shm)._prefix
    (shm / f"{prefix}left").mkdir()
    (shm / f"{prefix}in-use").mkdir()
    SharedMemory(state, shm).sweep({str(shm / f"{prefix}in-use")})
    assert {path.name for path in shm.iterdir()} == {"another-programs", f"{prefix}in-use"}
