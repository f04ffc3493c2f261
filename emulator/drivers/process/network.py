"""What a job of the process runtime has on its own network: the emulator, and a way out."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from emulator.drivers.aws_hosts import Reach, refusal
from emulator.drivers.forward_proxy import ForwardProxy
from emulator.drivers.process.environment import OwnNetwork
from emulator.drivers.process.job_network import (
    JobNetwork,
    address_of,
    enter_network,
    entry,
    make_network,
)
from emulator.drivers.process.network_maker import INTERFACE
from emulator.drivers.process.supervisor import SELF
from emulator.drivers.tunnel import LOOPBACK, Target

Answer = Callable[[socket.socket], Callable[[], None]]
"""Serves the emulator on a listening socket, which it takes over, and returns what ends that."""

LOOPBACK_INTERFACE = "lo"
_PROXY_PORTS = (3128, 3129)
"""Where the way out is found: the usual port of such proxies, or the next one if the
emulator has that itself. Low ones are none that the kernel would give to a script."""


@dataclass(frozen=True)
class Joined:
    """A job's network with everything on it."""

    entry: tuple[str, ...]
    """What comes before a command of the supervising process to have it run inside."""
    inside: OwnNetwork
    close: Callable[[], None]
    """Let go of it: it lasts as long as the supervising process."""
    descriptors: tuple[int, ...]
    """What the supervising process must have."""
    told: Mapping[str, Any]
    """For `rejoin` under the next emulator."""


class ProcessNetworks:
    """Makes the networks of jobs."""

    def __init__(
        self,
        bwrap: Path,
        user_namespace: bool,
        emulator_url: str,
        ambient: Mapping[str, str],
        answer: Answer,
        interface: bool = True,
        reach_aws: Reach = "data",
    ):
        """`ambient` names this machine's own proxies, as in the environment.

        With `interface` every instance has an address on an eth0. `reach_aws` says which of
        AWS's hosts jobs reach.
        """
        self._reach_aws: Reach = reach_aws
        self._has_interface = interface
        self._bwrap = bwrap
        self._user_namespace = user_namespace
        self._port = _port_of(emulator_url)
        self._proxy_port = next(port for port in _PROXY_PORTS if port != self._port)
        self._ambient = ambient
        self._answer = answer

    @property
    def interface(self) -> str:
        """What the instances of a job find each other on."""
        return INTERFACE if self._has_interface else LOOPBACK_INTERFACE

    @property
    def emulator_url(self) -> str:
        """Where an instance finds the emulator, whatever address that listens on outside."""
        return f"http://127.0.0.1:{self._port}"

    def make(self, hosts: Sequence[str], isolated: bool) -> Joined:
        """A network for one job, with neither emulator nor proxy if it is to be isolated.

        Raises OSError.
        """
        ports = () if isolated else (self._port, self._proxy_port)
        numbers = range(1, len(hosts) + 1) if self._has_interface else ()
        addresses = tuple(map(address_of, numbers))
        with ExitStack() as held:
            network = make_network(self._bwrap, self._user_namespace, ports, addresses)
            held.callback(network.close)
            proxy = None if isolated else f"http://127.0.0.1:{self._proxy_port}"
            if not isolated:
                self._serve(network, self._port, held)
            return Joined(
                entry=entry(network.nsenter, SELF, network.user, network.net),
                inside=OwnNetwork(tuple(hosts), proxy, addresses),
                close=held.pop_all().close,
                descriptors=network.descriptors,
                told={"user": network.user, "net": network.net, "ports": ports},
            )

    def rejoin(self, supervisor: int, told: Mapping[str, Any]) -> Callable[[], None]:
        """Answer again inside a network that an earlier emulator made; gives what ends that.

        `supervisor` is the process that holds it. Raises OSError.
        """
        with ExitStack() as held:
            if told["ports"]:
                network = enter_network(supervisor, told["user"], told["net"], told["ports"])
                held.callback(network.close)
                self._serve(network, told["ports"][0], held)
            return held.pop_all().close

    def _serve(self, network: JobNetwork, port: int, held: ExitStack) -> None:
        """Be the emulator, and the way out, on a network; `port` is the emulator's there."""
        emulator, way_out = network.listeners
        held.callback(_taken_over(emulator, self._answer))
        door = socket.create_server((LOOPBACK, 0))
        held.callback(door.close)
        held.callback(_taken_over(door, self._answer))
        held.callback(_taken_over(way_out, lambda own: self._proxy(own, port, door)))

    def _proxy(
        self, listening: socket.socket, port: int, door: socket.socket
    ) -> Callable[[], None]:
        """`door` is where the emulator answers what comes from the job, through the proxy too."""
        at = Target(LOOPBACK, door.getsockname()[1])
        refuse = partial(refusal, reach=self._reach_aws)
        return ForwardProxy(listening, self._ambient, port, at, refuse).close


def _taken_over(listening: socket.socket, answer: Answer) -> Callable[[], None]:
    """Let somebody serve a socket of his own beside this one."""
    own = listening.dup()
    try:
        return answer(own)
    except BaseException:
        own.close()
        raise


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def hosts_file(hosts: Sequence[str], network: OwnNetwork | None) -> str:
    """/etc/hosts: each instance has an address of its own, at least a loopback one."""
    addresses = network.addresses if network else ()
    loopback = [f"127.0.{n // 256}.{n % 256}" for n in range(2, len(hosts) + 2)]
    lines = [
        f"{address} {host}" for address, host in zip(addresses or loopback, hosts, strict=True)
    ]
    fixed = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join((*fixed, *lines, ""))


def answer_nobody(listening: socket.socket) -> Callable[[], None]:
    """An Answer for a runtime without an emulator behind it: connections are refused."""
    listening.close()
    return lambda: None
