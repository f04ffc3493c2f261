"""S3 uploads as old and new clients send them, over connections that are kept."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulators import sdk_python
from http_server import serving

from emulator.aws.gateway import Gateway
from emulator.aws.s3.local_control import LocalControl
from emulator.aws.s3.proxy import S3Proxy
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore
from emulator.model.faults import Chance, Fault, Kind
from emulator.settings import Settings
from emulator.workloads.fault_book import FaultBook

KEY, SECRET = "emulator", "emulator-secret"
SCRIPT = Path(__file__).parent / "sdk_scripts" / "s3_one_connection.py"

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(900)]


class EverySecond(FaultBook):
    """A SlowDown for every second request, from the first on."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    is_empty = False

    def strike(self, chance: Chance, _: set[str] | None = None) -> Fault | None:
        if chance.kind is not Kind.SLOW_DOWN:
            return None
        self.requests += 1
        return Fault(Kind.SLOW_DOWN) if self.requests % 2 else None


@pytest.fixture(params=["undisturbed", "every second request met by SlowDown"])
def endpoint(request: pytest.FixtureRequest, embedded_store: EmbeddedStore) -> Iterator[str]:
    faults = FaultBook() if request.param == "undisturbed" else EverySecond()
    proxy = S3Proxy(embedded_store.endpoint, KEY, SECRET, LocalControl(faults))
    with serving(Gateway({}, Settings()), proxy) as url:
        yield url


@pytest.fixture
def place(object_store: ObjectStore) -> str:
    """A bucket of the test's own."""
    name = f"connections-{uuid.uuid4().hex[:12]}"
    object_store.ensure_bucket(name)
    return name


@pytest.mark.parametrize(
    "python",
    [lambda: sdk_python("boto3-1.38"), lambda: Path(sys.executable)],
    ids=["boto3 1.38", "the newest boto3"],
)
def test_uploads_over_one_connection(endpoint: str, python: Callable[[], Path], place: str) -> None:
    done = subprocess.run(
        [python(), SCRIPT, endpoint, place, SECRET],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_aws_s3_sync(endpoint: str, place: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for number in range(8):
        (source / f"empty {number}").touch()
    (source / "large").write_bytes(os.urandom(20_000_000))
    (source / "small").write_bytes(b"small")
    aws = sdk_python("cli").with_name("aws")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "10",
    }
    for words in ((str(source), f"s3://{place}/d"), (f"s3://{place}/d", str(target))):
        done = subprocess.run(
            [aws, "s3", "sync", *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    compared = filecmp.dircmp(source, target)
    assert not compared.left_only
    assert not compared.right_only
    assert not compared.diff_files
