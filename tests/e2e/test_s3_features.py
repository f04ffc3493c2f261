"""docs/s3.md says what S3 does through the port, for each store; this makes its table."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulators import REPOSITORY, free_port, sdk_python
from http_server import serving
from s3_features import FEATURES, KEYS, verdict

from emulator.aws.gateway import Gateway
from emulator.aws.s3.proxy import S3Proxy
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.weed import key_problem
from emulator.settings import Settings

PAGE = REPOSITORY / "docs" / "s3.md"
STORES = ("SeaweedFS (embedded)", "moto's server")

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(900)]


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[str]:
    """moto's server stands for any other S3 server."""
    port = free_port()
    program = sdk_python("moto").with_name("moto_server")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_the_table_of_the_documentation(embedded_store: EmbeddedStore, moto: str) -> None:
    keys = (KEYS["aws_access_key_id"], KEYS["aws_secret_access_key"])
    embedded = S3Proxy(embedded_store.endpoint, *keys, key_problem=key_problem)
    other = S3Proxy(moto, *keys)
    gateway = Gateway({}, Settings())
    with serving(gateway, embedded) as first, serving(gateway, other) as second:
        rows = [
            f"| {name} | {verdict(first, feature)} | {verdict(second, feature)} |"
            for name, feature in FEATURES.items()
        ]
    table = "\n".join([f"| | {' | '.join(STORES)} |", "|---|---|---|", *rows]) + "\n"
    before, _, _ = PAGE.read_text().partition("| |")
    if "REWRITE_TABLE" in os.environ:
        PAGE.write_text(before + table)
    assert PAGE.read_text() == before + table
