"""The SageMaker Python SDKs, each in an environment of its own, with unchanged scripts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import files_in_tar

SCRIPTS = Path(__file__).parent / "sdk_scripts"

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(1200)]


def run_script(python: Path, emulator: Any, name: str, *arguments: str) -> str:
    done = subprocess.run(
        [python, SCRIPTS / name, *arguments],
        capture_output=True,
        text=True,
        env=emulator.environment,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def said(output: str, word: str) -> str:
    """What the script printed after a word of its own."""
    [line] = [line for line in output.splitlines() if line.startswith(f"{word} ")]
    return line.removeprefix(f"{word} ")


def check_training(output: str, s3: Any) -> None:
    assert "rank 0 of 2 read ['1,2', '3,4'] six 1.16.0" in output
    assert "rank 1 of 2 read ['1,2', '3,4'] six 1.16.0" in output
    assert "model.pth" in files_in_tar(s3, said(output, "MODEL"))


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """A directory with the source and the data of the scripts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.csv").write_text("1,2\n3,4\n")
    (tmp_path / "source").symlink_to(SCRIPTS / "source")
    return tmp_path


def test_v2_fit(sdk_v2: Path, emulator: Any, bucket: str, material: Path) -> None:
    output = run_script(sdk_v2, emulator, "fit_v2.py", str(material), bucket)
    check_training(output, emulator.client("s3"))
    assert "Training job completed" in output
    assert said(output, "ATTACHED").strip('"') == "2"


def test_v2_model_trainer_has_its_telemetry_answered(
    sdk_v2: Path, emulator: Any, bucket: str, material: Path
) -> None:
    output = run_script(sdk_v2, emulator, "modules_v2.py", str(material))
    assert said(output, "NAME").startswith("modules-")
    assert "Traceback" not in output
    assert "Request exception" not in output


def test_v3_train(sdk_v3: Path, emulator: Any, bucket: str, material: Path) -> None:
    data = f"s3://{bucket}/data/train"
    output = run_script(sdk_v3, emulator, "train_v3.py", str(material), data)
    check_training(output, emulator.client("s3"))
    assert said(output, "STATUS") == "Completed"
