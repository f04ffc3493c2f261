"""Where these tests can run, and an emulator for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulators import RunningEmulator, start_emulator

from emulator.placement.device import Gpu
from emulator.placement.gpus import find_gpus

SCRIPTS = Path(__file__).parent / "scripts"
BUCKET = "gpu-tests"


def missing() -> str:
    """Why nothing here can run; "" where it can."""
    found = find_gpus()
    if not found.gpus:
        return f"no GPU: {'; '.join(found.findings) or 'there is no NVIDIA driver'}"
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return "no PyTorch in this environment"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} cannot use CUDA: make setup TORCH=<a build with CUDA>"
    return ""


@pytest.fixture(scope="session")
def gpus() -> tuple[Gpu, ...]:
    """The machine's GPUs. With REQUIRE_GPU set, a machine without any fails instead of skipping."""
    if why := missing():
        if os.environ.get("REQUIRE_GPU"):
            pytest.fail(why)
        pytest.skip(why)
    return find_gpus().gpus


Start = Callable[..., RunningEmulator]


@pytest.fixture
def start(gpus: tuple[Gpu, ...], tmp_path: Path) -> Iterator[Start]:
    """Starts an emulator of the process runtime with these settings, the scripts in S3."""
    started: list[RunningEmulator] = []

    def begin(**settings: str) -> RunningEmulator:
        config = tmp_path / "settings.toml"
        told = {"runtime": "process", **settings}
        config.write_text("".join(f'{name} = "{value}"\n' for name, value in told.items()))
        emulator = start_emulator(tmp_path / "state", "--config", str(config))
        started.append(emulator)
        s3 = emulator.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for script in SCRIPTS.glob("*.py"):
            s3.put_object(Bucket=BUCKET, Key=f"code/{script.name}", Body=script.read_bytes())
        return emulator

    yield begin
    for emulator in started:
        emulator.end()
