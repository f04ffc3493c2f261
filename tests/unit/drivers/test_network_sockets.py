"""A network that cannot be joined leaves no descriptor behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.drivers.process import network as process_network
from emulator.drivers.process.job_network import JobNetwork
from emulator.drivers.process.network import ProcessNetworks


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def network(*_: object) -> JobNetwork:
    listeners = tuple(socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    return JobNetwork(None, os.open("/dev/null", os.O_RDONLY), listeners, "nsenter")


def test_no_socket_is_left_of_a_network_that_nobody_answers_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(listening: socket.socket) -> Callable[[], None]:
        kept.append(listening)
        raise OSError("the endpoint does not answer any more")

    kept: list[socket.socket] = []
    monkeypatch.setattr(process_network, "make_network", network)
    networks = ProcessNetworks(Path("bwrap"), False, "http://127.0.0.1:4570", {}, refuse)
    before = descriptors()
    with pytest.raises(OSError, match="does not answer"):
        networks.make(["algo-1"], isolated=False)
    assert descriptors() == before
