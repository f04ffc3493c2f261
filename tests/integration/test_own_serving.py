"""The serving container of the tests keeps the contract, and breaks it as it is told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected

import pytest
from own_serving import PROGRAM, build_image

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@contextmanager
def serving(faults: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_FAULTS": faults}
    process = subprocess.Popen([sys.executable, PROGRAM, "serve"], env=env)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def call(
    port: int, method: str, path: str, body: bytes = b"", attributes: str = ""
) -> tuple[int, bytes]:
    deadline = time.monotonic() + 30
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body, {ATTRIBUTES: attributes})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        finally:
            connection.close()


def test_faults_of_single_invocations() -> None:
    with serving() as (process, port):
        assert call(port, "GET", "/ping")[0] == 200
        assert call(port, "POST", "/invocations", b"x") == (200, b"x")
        assert call(port, "POST", "/invocations", b"", "status=500") == (500, b"told to fail")
        assert len(call(port, "POST", "/invocations", b"", "large=30")[1]) == 30 << 20
        assert call(port, "POST", "/invocations", b"", "stream=2")[1] == b"part 0\npart 1\n"
        with pytest.raises(IncompleteRead):
            call(port, "POST", "/invocations", b"", "cut=1")
        seen = json.loads(call(port, "POST", "/invocations", b"abc", "describe")[1])
        assert (seen["body_bytes"], seen["arguments"]) == (3, ["serve"])
        with pytest.raises((RemoteDisconnected, ConnectionResetError)):
            call(port, "POST", "/invocations", b"", "die")
        assert process.wait(30) == 9


def test_faults_of_the_whole_container() -> None:
    with serving("exit") as (process, _):
        assert process.wait(30) == 3
    with serving("no-ping") as (_, port):
        assert call(port, "GET", "/ping")[0] == 503


@pytest.mark.parametrize(("faults", "ends"), [("", True), ("ignore-sigterm", False)])
def test_sigterm(faults: str, ends: bool) -> None:
    with serving(faults) as (process, port):
        call(port, "GET", "/ping")
        process.send_signal(signal.SIGTERM)
        if ends:
            assert process.wait(30) == 0
        else:
            assert call(port, "GET", "/ping")[0] == 200


@pytest.mark.docker
def test_image_is_started_as_the_service_does() -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--env", "SERVE_FAULTS=exit", build_image(), "serve"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, b"told to exit\n")
