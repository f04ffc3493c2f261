"""compose.yaml and its overrides, read by the real compose."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compose comes as a Linux wheel")
ROOT = Path(__file__).parents[2]
OVERRIDES = ("compose.gpu.yaml", "compose.seaweedfs.yaml")
ALL = [
    chosen
    for count in range(len(OVERRIDES) + 1)
    for chosen in itertools.combinations(OVERRIDES, count)
]


def config(*overrides: str, **variables: str) -> dict[str, Any]:
    """The services that compose makes of the files."""
    files = [word for name in ("compose.yaml", *overrides) for word in ("--file", name)]
    compose = Path(sys.executable).parent / "docker-compose"
    answer = subprocess.run(
        [compose, *files, "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, "PWD": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("overrides", ALL)
def test_every_port_is_on_loopback_only(overrides: tuple[str, ...]) -> None:
    ports = [p for service in config(*overrides)["services"].values() for p in service["ports"]]
    assert {port["target"] for port in ports} >= {4570, 9000}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


@pytest.mark.parametrize("overrides", ALL)
def test_the_state_directory_has_one_path(overrides: tuple[str, ...]) -> None:
    emulator = config(*overrides, EMULATOR_STATE_DIR="/srv/state")["services"]["emulator"]
    (mount,) = [v for v in emulator["volumes"] if v["target"] == "/srv/state"]
    assert (mount["type"], mount["source"]) == ("bind", "/srv/state")
    assert emulator["environment"]["EMULATOR_STATE_DIR"] == "/srv/state"


@pytest.mark.parametrize("overrides", ALL)
def test_the_emulator_waits_for_an_object_store_that_keeps_its_data(
    overrides: tuple[str, ...],
) -> None:
    found = config(*overrides)
    objects = found["services"]["objects"]
    condition = found["services"]["emulator"]["depends_on"]["objects"]["condition"]
    assert condition == "service_healthy"
    assert objects["healthcheck"]["test"]
    assert [(v["type"], v["source"]) for v in objects["volumes"]] == [("volume", "objects")]
    assert ":" in objects["image"].rpartition("/")[2], "pinned by tag"


def test_credentials_are_the_same_on_both_sides() -> None:
    keys = {"EMULATOR_ACCESS_KEY": "mine", "EMULATOR_SECRET_KEY": "my-secret"}
    minio = config(**keys)
    assert minio["services"]["objects"]["environment"].items() >= {
        ("MINIO_ROOT_USER", "mine"),
        ("MINIO_ROOT_PASSWORD", "my-secret"),
    }
    assert minio["services"]["emulator"]["environment"].items() >= keys.items()
    seaweed = config("compose.seaweedfs.yaml", **keys)
    (identity,) = json.loads(seaweed["configs"]["seaweedfs"]["content"])["identities"]
    assert identity["credentials"] == [{"accessKey": "mine", "secretKey": "my-secret"}]


def test_minio_has_a_key_for_uploads_that_ask_for_kms() -> None:
    name, _, key = config()["services"]["objects"]["environment"]["MINIO_KMS_SECRET_KEY"].partition(
        ":"
    )
    assert name
    assert len(base64.b64decode(key, validate=True)) == 32


def test_only_the_gpu_override_asks_for_gpus() -> None:
    assert "deploy" not in config()["services"]["emulator"]
    (device,) = config("compose.gpu.yaml")["services"]["emulator"]["deploy"]["resources"][
        "reservations"
    ]["devices"]
    assert (device["driver"], device["count"]) == ("nvidia", -1)
