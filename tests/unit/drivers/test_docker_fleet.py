"""A fleet of containers on an engine that is older than what it is asked for."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from docker.client import DockerClient

from emulator.drivers.docker import fleet as docker_fleet
from emulator.drivers.docker.fleet import DockerFleet
from emulator.model.plan import Exit

API_BEFORE_ONE_SHOT = "1.40"


def test_an_old_engine_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def until_end() -> Exit:
        ended.wait(20)
        return Exit("algo-1", 0, 0.0)

    running: Any = SimpleNamespace(until_end=until_end)
    monkeypatch.setattr(docker_fleet, "Watch", lambda *_: running)
    # The library refuses by the version that it was told: nothing is connected to.
    client = DockerClient("tcp://127.0.0.1:1", version=API_BEFORE_ONE_SHOT)
    fleet = DockerFleet(client, [], {"algo-1": "id"}, lambda *_: None)
    fleet.watch("algo-1")
    try:
        assert fleet.usage() == {}
    finally:
        ended.set()
        client.close()
    assert fleet.next_exit(20) == Exit("algo-1", 0, 0.0)
