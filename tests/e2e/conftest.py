"""What end-to-end tests share: one emulator, a bucket, an environment for each SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulators import EXAMPLES, RunningEmulator, sdk_python, start_emulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """One emulator for all end-to-end tests that do not end it themselves."""
    running = start_emulator(tmp_path_factory.mktemp("emulator") / "state")
    yield running
    running.end()


@pytest.fixture(scope="session")
def bucket(emulator: RunningEmulator) -> str:
    """A bucket with a small training set in `data/train` and `data/test`."""
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket="e2e-bucket")
    for channel in ("train", "test"):
        s3.put_object(Bucket="e2e-bucket", Key=f"data/{channel}/numbers.csv", Body=b"1,2\n3,4\n")
    return "e2e-bucket"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data that the examples train on."""
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, EXAMPLES / "make_data.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def sdk_v2() -> Path:
    return sdk_python("v2")


@pytest.fixture(scope="session")
def sdk_v3() -> Path:
    return sdk_python("v3")


@pytest.fixture
def sagemaker(emulator: Any) -> Any:
    return emulator.client("sagemaker")


@pytest.fixture
def logs(emulator: Any) -> Any:
    return emulator.client("logs")


@pytest.fixture
def s3(emulator: Any) -> Any:
    return emulator.client("s3")
