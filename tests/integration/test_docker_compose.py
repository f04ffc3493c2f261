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
    ambient = {k: v for k, v in os.environ.items() if not k.startswith("EMULATOR_")}
    answer = subprocess.run(
        [compose, *files, "config", "--format", "json"],
        cwd=ROOT,
        env={**ambient, "PWD": "/elsewhere", **variables},
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
    assert {port["target"] for port in ports} >= {4570, 4571, 9000}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


@pytest.mark.parametrize("overrides", ALL)
def test_the_state_directory_is_the_projects_unless_it_is_named(
    overrides: tuple[str, ...],
) -> None:
    target = "/var/lib/sagemaker-emulator"
    for given, source in (({}, ROOT / ".sagemaker-emulator"), ({"EMULATOR_STATE_DIR": "/s"}, "/s")):
        volumes = config(*overrides, **given)["services"]["emulator"]["volumes"]
        (mount,) = [volume for volume in volumes if volume["target"] == target]
        assert (mount["type"], mount["source"]) == ("bind", str(source))


@pytest.mark.parametrize("overrides", ALL)
def test_every_port_is_the_same_inside_as_clients_are_told(overrides: tuple[str, ...]) -> None:
    ports = {"EMULATOR_PORT": "4600", "EMULATOR_PROXY_PORT": "4700"}
    emulator = config(*overrides, **ports)["services"]["emulator"]
    assert emulator["environment"].items() >= ports.items()
    assert {(p["target"], p["published"]) for p in emulator["ports"]} == {
        (4600, "4600"),
        (4700, "4700"),
    }


@pytest.mark.parametrize("overrides", ALL)
def test_services_have_few_rights_and_limits(overrides: tuple[str, ...]) -> None:
    for service in config(*overrides)["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["init"]
        assert int(service["mem_limit"]) > 0
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert config(*overrides)["services"]["emulator"]["read_only"]


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
