"""What keeps `up` from starting is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.cli.reach import unreachable


def _up(*flags: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "emulator", "up", "--runtime", "process", *flags]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("EMULATOR_")
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine(tmp_path: Path, host: str) -> None:
    code, said = _up("--state-dir", str(tmp_path), "--port", "0", "--host", host)
    assert (code, said) == (
        1,
        f"error: {host} is no address of this machine. Choose another --host.\n",
    )


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("")
    code, said = _up("--state-dir", str(file), "--port", "0")
    assert (code, len(said.splitlines())) == (1, 1)
    assert str(file) in said
    assert "--state-dir" in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:many", "nonsense"])
def test_a_server_that_cannot_be_asked(url: str) -> None:
    assert url in unreachable(url)
