"""The libraries by which training scripts read and write S3, inside jobs of both runtimes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import log_lines, run, shell_request
from emulators import RunningEmulator, sdk_python, start_emulator

SCRIPT = Path(__file__).parent / "sdk_scripts" / "s3_clients.py"
BUCKET = "s3-clients"
ON_THE_C_RUNTIME = ("s3torchconnector_map_dataset", "s3torchconnector_checkpoint")
OTHERS = ("pyarrow_file_system", "s3fs_open", "smart_open_stream", "webdataset_pipe", "aws_s3_sync")

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def libraries() -> Path:
    return sdk_python("s3")


def prepare(emulator: RunningEmulator) -> RunningEmulator:
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for name, body in (("a.txt", b"one"), ("b.txt", b"two")):
        s3.put_object(Bucket=BUCKET, Key=f"run/in/{name}", Body=body)
    s3.upload_file(str(SCRIPT), BUCKET, f"code/{SCRIPT.name}")
    return emulator


@pytest.fixture
def processes(tmp_path: Path, libraries: Path) -> Iterator[RunningEmulator]:
    running = start_emulator(tmp_path / "state", "--python", str(libraries))
    yield prepare(running)
    running.end()


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[RunningEmulator]:
    running = start_emulator(tmp_path / "state", runtime="docker")
    yield prepare(running)
    running.end()


def channel(name: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def check(emulator: RunningEmulator, names: tuple[str, ...], *channels: str, **more: str) -> None:
    """Run a job with these clients; each one has to say that it works."""
    body = shell_request(
        BUCKET,
        f"python3 /opt/ml/input/data/code/{SCRIPT.name} {' '.join(names)}",
        Environment={"BUCKET": BUCKET, "PREFIX": "run", **more},
        InputDataConfig=[channel("code"), *map(channel, channels)],
    )
    job = run(emulator.client("sagemaker"), body)
    lines = log_lines(emulator.client("logs"), job["TrainingJobName"])
    assert [line for line in lines if line.endswith(": works")] == [
        f"{name}: works" for name in names
    ], "\n".join(lines)


def test_in_sandboxes(processes: RunningEmulator) -> None:
    aws = str(sdk_python("cli").with_name("aws"))
    check(processes, (*ON_THE_C_RUNTIME, *OTHERS), AWS_PROGRAM=aws)


@pytest.mark.docker
def test_clients_on_the_c_runtime_in_containers(
    containers: RunningEmulator, libraries: Path
) -> None:
    (site,) = libraries.parents[1].glob("lib/python*/site-packages")
    s3 = containers.client("s3")
    for package in site.glob("s3torchconnector*"):
        for file in package.rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                s3.upload_file(str(file), BUCKET, f"libraries/{file.relative_to(site)}")
    place = "/opt/ml/input/data/libraries"
    check(containers, ON_THE_C_RUNTIME, "libraries", PYTHONPATH=place)
