"""What a runtime has to do whose instances are sent requests."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from runtime_harness import PATIENCE, Launch, Next, Output, Run

from emulator.drivers.base import Leavable, Reachable

_SERVER = """
import socket
listening = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
while True:
    connection, _ = listening.accept()
    with connection:
        connection.sendall(connection.recv(100).upper())
"""
_PYTHON = ("python3", "-c")


def _ask(fleet: object, word: bytes, port: int = 8080) -> bytes:
    assert isinstance(fleet, Reachable)
    with closing(fleet.dial("algo-1", port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(word)
        return connection.recv(100)


def _serve(launch: Launch, **more: bool) -> Run:
    run = launch(_SERVER, entrypoint=_PYTHON, **more)
    run.await_text("ready")
    return run


@pytest.mark.parametrize("network_isolation", [False, True])
def test_an_instance_answers(launch: Launch, network_isolation: bool) -> None:
    run = _serve(launch, network_isolation=network_isolation, reachable=True)
    assert [_ask(run.fleet, word) for word in (b"one", b"two")] == [b"ONE", b"TWO"]


def test_a_connection_waits_for_its_answer(launch: Launch) -> None:
    """Its descriptor may come from another process, with that one's timeout."""
    run = launch(
        _SERVER.replace("connection.sendall", "import time; time.sleep(0.5); connection.sendall"),
        entrypoint=_PYTHON,
        reachable=True,
    )
    run.await_text("ready")
    assert isinstance(run.fleet, Reachable)
    with closing(run.fleet.dial("algo-1", 8080)) as connection:
        connection.sendall(b"slow")
        assert connection.makefile("rb").read() == b"SLOW"


def test_two_fleets_with_the_same_port_are_told_apart(launch: Launch) -> None:
    other = launch(_SERVER.replace(".upper()", ".lower()"), entrypoint=_PYTHON, reachable=True)
    other.await_text("ready")
    run = _serve(launch, reachable=True)
    assert (_ask(run.fleet, b"aB"), _ask(other.fleet, b"aB")) == (b"AB", b"ab")


def test_a_port_that_nobody_listens_on_is_an_error(launch: Launch) -> None:
    run = _serve(launch, reachable=True)
    with pytest.raises(OSError, match=r"refused|unreachable"):
        _ask(run.fleet, b"word", port=8999)
    assert _ask(run.fleet, b"word") == b"WORD"


def test_what_has_ended_cannot_be_dialled(launch: Launch) -> None:
    run = _serve(launch, reachable=True)
    run.fleet.kill()
    run.exits()
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on what is left of the network
        _ask(run.fleet, b"word")


def test_the_next_emulator_reaches_it(launch: Launch, next_runtime: Next) -> None:
    run = _serve(launch, reachable=True, outlives=True)
    assert _ask(run.fleet, b"first") == b"FIRST"
    assert isinstance(run.fleet, Leavable)
    run.fleet.leave()
    run.left = True
    runtime = next_runtime()
    fleet = runtime.adopt(run.plan.arn, Output())
    assert fleet
    try:
        assert _ask(fleet, b"again") == b"AGAIN"
    finally:
        fleet.close()


def test_dialling_leaves_no_descriptor_open(launch: Launch) -> None:
    run = _serve(launch, reachable=True)
    _ask(run.fleet, b"first")
    before = _descriptors()
    for _ in range(20):
        _ask(run.fleet, b"word")
    assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
