"""What the Docker engine of this machine is like, and the way from its containers to us."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import requests
from docker.client import DockerClient
from docker.constants import DEFAULT_TIMEOUT_SECONDS
from docker.errors import DockerException, NotFound

from emulator.drivers.docker import ownership as docker_ownership
from emulator.drivers.docker.own_mounts import OwnMounts
from emulator.drivers.docker.requests import HOST_NAME
from emulator.model.errors import SetupError

ENGINE_GONE = (requests.exceptions.RequestException, ConnectionError, TimeoutError)
"""How a call fails when the engine itself does not answer."""

ALIAS = "sagemaker-emulator"
"""The emulator's name on a job's network when it runs in a container itself."""

_CALLS_AT_ONCE = 16
_T = TypeVar("_T")
_R = TypeVar("_R")
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Engine:
    """Facts about an engine that do not change while it runs."""

    version: str
    memory_bytes: int
    cdi_devices: frozenset[str]
    """Names of the CDI devices it found, e.g. nvidia.com/gpu=GPU-…"""
    gateway: str | None
    """The host's address on the default bridge."""
    own_container: str | None
    """Id of the container this process runs in, if the engine runs it."""
    cores: int = 1
    foreign_root: bool = False
    """Root in a container is not the user this process runs as."""
    own_mounts: OwnMounts = field(default_factory=OwnMounts)
    """What is mounted into the container this process runs in."""

    @property
    def emulator_host(self) -> str:
        """Where a job's containers find the emulator.

        An address where there is one: clients on AWS's C runtime (s3torchconnector) put the bucket
        before any name, and `bucket.host.docker.internal` is nobody's.
        """
        if self.own_container:
            return ALIAS
        return next(iter(listen_addresses(self)), HOST_NAME)

    @property
    def mounts_layers(self) -> bool:
        """Can it mount overlays of this machine's directories? It has to run here, as root."""
        return bool(listen_addresses(self)) and not self.foreign_root

    def gpu_driver(self, gpus: tuple[str, ...]) -> str:
        """CDI where the engine knows all these GPUs by it, else the container toolkit's hook."""
        known = gpus and all(f"nvidia.com/gpu={gpu}" in self.cdi_devices for gpu in gpus)
        return "cdi" if known else "nvidia"


def side_by_side(call: Callable[[_T], _R], items: Collection[_T]) -> list[_R]:
    """What each call returns, a few of them at a time; raises what the first one raises.

    All calls are made, whatever some of them raise. The calling thread makes some itself, so
    that a process that can have no more threads still removes what it started.
    """
    todo = iter(enumerate(items))
    answers: dict[int, _R] = {}
    errors: dict[int, BaseException] = {}
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                number, item = next(todo, (None, None))
            if number is None:
                return
            try:
                answers[number] = call(cast("_T", item))
            except BaseException as error:  # noqa: BLE001 - raised by the calling thread
                errors[number] = error

    helpers = []
    with contextlib.suppress(RuntimeError):  # no thread more: those there are do it
        for _ in range(min(len(items), _CALLS_AT_ONCE) - 1):
            helper = threading.Thread(target=work, name="engine call", daemon=True)
            helper.start()
            helpers.append(helper)
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[min(errors)]
    return [answers[number] for number in range(len(items))]


def connect(url: str | None = None, timeout: int = DEFAULT_TIMEOUT_SECONDS) -> DockerClient:
    """A client of the engine that `url`, DOCKER_HOST or the default socket names.

    `timeout`: seconds that each call may take.

    Raises SetupError when none answers there.
    """
    try:
        client = (
            DockerClient(base_url=url, timeout=timeout)
            if url
            else DockerClient.from_env(timeout=timeout)
        )
        client.ping()
    except (DockerException, *ENGINE_GONE) as error:
        raise no_engine(str(error), url or os.environ.get("DOCKER_HOST", "")) from error
    return client


def no_engine(complaint: str, url: str = "") -> SetupError:
    """What it means that Docker's client says this; `url`: where it looked, if not by default."""
    if "PermissionError" in complaint:
        return SetupError(
            "This user may not use the Docker engine's socket.",
            "As root: usermod -aG docker USER, then log in again. Or use EMULATOR_RUNTIME=process.",
        )
    where = f" at {url}" if url else ""
    known = "FileNotFoundError" in complaint or "Connection refused" in complaint
    why = "" if known else f": {complaint[:120]}"
    return SetupError(
        f"No Docker engine answers{where}{why}.",
        "Start one (or set DOCKER_HOST), or use EMULATOR_RUNTIME=process.",
    )


def inspect_engine(client: DockerClient) -> Engine:
    """Ask the engine once for all that the runtime needs to know of it."""
    info: Mapping[str, Any] = client.info()
    own = _own_container(client)
    return Engine(
        version=str(info.get("ServerVersion", "")),
        memory_bytes=int(info.get("MemTotal", 0)),
        cores=int(info.get("NCPU", 0)) or 1,
        cdi_devices=frozenset(
            device["ID"]
            for device in info.get("DiscoveredDevices") or ()
            if device.get("Source") == "cdi"
        ),
        gateway=_gateway(client),
        own_container=own["Id"] if own else None,
        foreign_root=docker_ownership.wanted(info.get("SecurityOptions") or ()),
        own_mounts=OwnMounts.of(own["Mounts"] if own else ()),
    )


def listen_addresses(engine: Engine) -> tuple[str, ...]:
    """Where the emulator has to listen, beside loopback, for containers to reach it.

    Linux: the host's address on the default bridge, which containers of every network that
    is not isolated reach and other machines do not. Docker Desktop leads HOST_NAME to the
    host's loopback: nothing more is needed, and the bridge's address is inside its machine.
    """
    if engine.gateway is None or engine.own_container or not _is_ours(engine.gateway):
        return ()
    return (engine.gateway,)


def _is_ours(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _gateway(client: DockerClient) -> str | None:
    try:
        network: Mapping[str, Any] = client.api.inspect_network("bridge")
    except NotFound:
        return None
    return gateway_of(network)


def gateway_of(network: Mapping[str, Any]) -> str | None:
    """The IPv4 gateway in a NetworkInspect answer.

    The default bridge's answer names none until its first container has run (measured with
    20.10); it is then the subnet's first address.
    """
    for config in network.get("IPAM", {}).get("Config") or ():
        if gateway := config.get("Gateway"):
            if ":" not in gateway:
                return str(gateway)
        elif ":" not in config.get("Subnet", ":"):
            return str(ipaddress.IPv4Network(config["Subnet"])[1])
    return None


def _own_container(client: DockerClient) -> Mapping[str, Any] | None:
    """ContainerInspect's answer for the container this process runs in, if the engine runs it."""
    if not Path("/.dockerenv").exists() or not _MOUNTINFO.exists():
        return None
    container_id = container_id_in(_MOUNTINFO.read_text())
    if container_id is None:
        return None
    try:
        found: Mapping[str, Any] = client.api.inspect_container(container_id)
    except NotFound:
        # Some other engine's container, e.g. a CI job that starts an engine of its own.
        return None
    return found


def container_id_in(mountinfo: str) -> str | None:
    """The container's id from the files that the engine mounts over its /etc."""
    found = re.search(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf)\b", mountinfo)
    return found[1] if found else None
