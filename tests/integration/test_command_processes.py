"""Commands in processes of their own: what each one loads, and completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("botocore", "boto3", "fastapi", "uvicorn", "docker", "minio", "obstore")
SERVER = (
    "emulator.app",
    "emulator.parts",
    "emulator.workloads",
    "emulator.data",
    "emulator.drivers",
)
LOADED = f"""
import sys
from emulator.cli import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print([name for name in {HEAVY + SERVER} if name in sys.modules], file=sys.stderr)
"""


def test_the_options_of_a_command_are_completed() -> None:
    # As the script of `--install-completion` asks it.
    words = {"_SAGEMAKER_EMULATOR_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    asked = {**words, "COMP_WORDS": "sagemaker-emulator logs --fol"}
    done = subprocess.run(
        [sys.executable, "-c", "from emulator.cli import app; app(prog_name='sagemaker-emulator')"],
        capture_output=True,
        text=True,
        env={**os.environ, **asked},
        check=False,
    )
    assert "--follow" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("--help",),
        ("env", "--no-proxy"),
        ("jobs", "--endpoint-url", "http://127.0.0.1:1"),
        ("describe", "job", "--endpoint-url", "http://127.0.0.1:1"),
        ("logs", "job", "--endpoint-url", "http://127.0.0.1:1"),
        ("stop", "job", "--endpoint-url", "http://127.0.0.1:1"),
    ],
    ids=" ".join,
)
def test_a_command_for_a_running_emulator_does_not_load_the_server(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    environment = {**os.environ, "EMULATOR_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert "[]" in done.stderr.splitlines(), done.stderr
