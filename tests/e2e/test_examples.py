"""The scripts under examples/ run as they are, and so does the demo of the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emulators import REPOSITORY, free_port

EXAMPLES = REPOSITORY / "examples"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data that the examples train on."""
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, EXAMPLES / "make_data.py", folder], check=True)
    return folder


def submit(python: Path | str, script: str, data: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [python, EXAMPLES / script, "--data", data],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", ["digits_single", "script_mode_ddp", "torch_distributed"])
def test_with_boto3(name: str, emulator: Any, digits: Path) -> None:
    said = submit(sys.executable, f"{name}/submit_boto3.py", digits, emulator.environment)
    assert "Completed s3://" in said


@pytest.mark.sdk
@pytest.mark.parametrize(
    "name",
    [
        "digits_single",
        "hf_trainer",
        "lightning",
        "script_mode_ddp",
        "spot_checkpoints",
        "torch_distributed",
    ],
)
def test_with_sdk_v2(name: str, sdk_v2: Path, emulator: Any, digits: Path) -> None:
    said = submit(sdk_v2, f"{name}/submit_sdk_v2.py", digits, emulator.environment)
    assert "test_accuracy=" in said
    assert "model.tar.gz" in said


@pytest.mark.sdk
def test_a_remote_function(sdk_v2: Path, emulator: Any, digits: Path) -> None:
    said = submit(sdk_v2, "remote_function/submit_sdk_v2.py", digits, emulator.environment)
    assert "slope=3.00;" in said


@pytest.mark.sdk
@pytest.mark.parametrize(
    "name",
    [
        "digits_single",
        "hf_trainer",
        "lightning",
        "script_mode_ddp",
        "spot_checkpoints",
        "torch_distributed",
    ],
)
def test_with_sdk_v3(name: str, sdk_v3: Path, emulator: Any, digits: Path) -> None:
    said = submit(sdk_v3, f"{name}/submit_sdk_v3.py", digits, emulator.environment)
    assert "Completed s3://" in said


def test_the_demo_trains_a_good_model(tmp_path: Path) -> None:
    where = ["--state-dir", tmp_path / "state", "--port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "demo", *where],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "model.tar.gz" in done.stdout
