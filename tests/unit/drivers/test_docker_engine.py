from __future__ import annotations

import socket

import pytest

from emulator.drivers.docker.engine import (
    Engine,
    connect,
    container_id_in,
    gateway_of,
    listen_addresses,
)
from emulator.model.errors import SetupError

ID = "ab" * 32
ENGINE = Engine("28.3", 2**33, frozenset({"nvidia.com/gpu=GPU-a"}), None, None)


def engine(**changes: object) -> Engine:
    return Engine(**{**vars(ENGINE), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpus", "driver"), [(("GPU-a",), "cdi"), (("GPU-a", "GPU-b"), "nvidia"), ((), "nvidia")]
)
def test_cdi_only_where_the_engine_knows_every_gpu(gpus: tuple[str, ...], driver: str) -> None:
    assert ENGINE.gpu_driver(gpus) == driver


@pytest.mark.parametrize(
    ("config", "gateway"),
    [
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}], "172.17.0.1"),
        ([{"Subnet": "172.17.0.0/16"}], "172.17.0.1"),
        ([{"Subnet": "fd00::/64", "Gateway": "fd00::1"}, {"Subnet": "10.9.0.0/24"}], "10.9.0.1"),
        ([{"Subnet": "fd00::/64"}], None),
        (None, None),
    ],
)
def test_the_gateway_of_a_network(config: list[dict[str, str]] | None, gateway: str | None) -> None:
    assert gateway_of({"IPAM": {"Config": config}}) == gateway


def test_where_containers_find_the_emulator_depends_on_where_it_runs() -> None:
    assert engine(gateway="127.0.0.2").emulator_host == "127.0.0.2"
    assert engine(gateway="192.0.2.1").emulator_host == "host.docker.internal"
    assert engine(own_container=ID).emulator_host == "sagemaker-emulator"


def test_only_an_address_of_this_machine_is_listened_on() -> None:
    assert listen_addresses(engine(gateway="127.0.0.2")) == ("127.0.0.2",)
    assert listen_addresses(engine(gateway="192.0.2.1")) == ()  # TEST-NET: nobody's
    assert listen_addresses(engine(gateway="127.0.0.2", own_container=ID)) == ()
    assert listen_addresses(engine(gateway=None)) == ()


def test_the_own_container_is_seen_in_its_mounts() -> None:
    line = f"1 2 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda rw"
    assert container_id_in(f"1 2 0:1 / / rw\n{line}\n") == ID
    assert container_id_in("1 2 0:1 / / rw\n") is None


def test_no_engine_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SetupError, match=r"No Docker engine answers.*EMULATOR_RUNTIME=process"):
        connect(f"tcp://127.0.0.1:{port}")
