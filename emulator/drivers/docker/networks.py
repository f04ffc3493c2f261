"""Networks of jobs, and the emulator's own place on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docker.client import DockerClient

from emulator.drivers.docker.engine import ALIAS, Engine
from emulator.drivers.docker.requests import ALONE


def create_network(client: DockerClient, engine: Engine, body: Mapping[str, Any]) -> None:
    """Create it; an emulator in a container joins it, unless its members are to be alone."""
    network = client.api.create_network(**body)["Id"]
    if engine.own_container and ALONE not in body["options"]:
        _join(client, engine.own_container, network)


def join_networks(client: DockerClient, engine: Engine, labels: list[str]) -> None:
    """Be on all networks that have these labels.

    An emulator in a container is another container after each start of it.
    """
    own = engine.own_container
    if own is None:
        return
    for network in client.api.networks(filters={"label": labels}):
        # Isolated jobs do not reach it, and it may be there still.
        if ALONE not in (network.get("Options") or {}) and own not in _members(
            client, network["Id"]
        ):
            _join(client, own, network["Id"])


def _join(client: DockerClient, container: str, network: str) -> None:
    client.api.connect_container_to_network(container, network, aliases=[ALIAS])


def _members(client: DockerClient, network: str) -> Mapping[str, Any]:
    return client.api.inspect_network(network).get("Containers") or {}
