"""The process in front, with a real object store behind it."""

from __future__ import annotations

import asyncio
import http.client
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emulator.aws.front import front as front_module
from emulator.aws.front.front import Front
from emulator.aws.front.process import StoreAccess
from emulator.aws.s3.local_control import LocalControl
from emulator.data.objectstore.availability import Availability
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.model.faults import Fault, Kind
from emulator.parts import listen

KEY, SECRET = "emulator", "emulator-secret"
BUCKET = "front-tests"


class Running:
    """An endpoint of two processes."""

    def __init__(self, front: Front, control: LocalControl, port: int):
        self.front = front
        self.faults = control.faults
        self.port = port
        self.loop: asyncio.AbstractEventLoop | None = None
        """Of the server's thread."""

    @property
    def pid(self) -> int:
        assert self.front.pid is not None
        return self.front.pid

    def s3(self, attempts: int = 0) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(retries={"max_attempts": attempts, "mode": "standard"}),
        )

    def line(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says which process answers, once it has read the request."""
    while (await receive()).get("more_body"):
        pass
    text = b"%d" % os.getpid()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@contextmanager
def running(store: str, availability: Availability | None = None) -> Iterator[Running]:
    front, control = Front(), LocalControl(availability=availability)
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    loops: queue.Queue[asyncio.AbstractEventLoop] = queue.Queue()

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        await receive()
        loops.put(asyncio.get_running_loop())
        front.attach([listening], StoreAccess(store, KEY, SECRET, 0, "/"), control)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    front.start()
    server = front.server(lifespan)
    thread = threading.Thread(target=server.run, kwargs={"sockets": []})
    thread.start()
    made = Running(front, control, port)
    made.loop = loops.get(timeout=60)
    try:
        yield made
    finally:
        front.end()
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def endpoint(embedded_store: EmbeddedStore) -> Iterator[Running]:
    with running(embedded_store.endpoint) as made:
        made.s3().create_bucket(Bucket=BUCKET)
        yield made


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def asked(line: http.client.HTTPConnection) -> int:
    """The process that answers an API request."""
    line.request("POST", "/_emulator/x", b"x" * 1000)
    return int(line.getresponse().read())


def status_of_s3(line: http.client.HTTPConnection) -> int:
    line.request("GET", f"/{BUCKET}/none")
    answer = line.getresponse()
    answer.read()
    return answer.status


def test_one_connection_for_both_kinds_of_requests(endpoint: Running) -> None:
    line = endpoint.line()
    line.connect()
    first = line.sock
    for _ in range(3):
        assert status_of_s3(line) == 403
        assert asked(line) == os.getpid()
    assert line.sock is first


def test_a_connection_comes_back_to_the_server_that_accepted_it(endpoint: Running) -> None:
    """As those of a job do, which has no access to the admin routes."""

    async def door(scope: Any, receive: Any, send: Any) -> None:
        async def changed(message: Any) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b"0" * len(message["body"])}
            await send(message)

        await application(scope, receive, changed)

    listening = listen("127.0.0.1", 0)
    server = endpoint.front.server(door, lifespan="off")
    assert endpoint.loop is not None
    serving = asyncio.run_coroutine_threadsafe(server.serve([listening]), endpoint.loop)
    line = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)
    line.connect()
    first = line.sock
    for _ in range(2):
        assert asked(line) == 0
        assert status_of_s3(line) == 403
    assert asked(line) == 0
    assert line.sock is first
    line.close()
    server.should_exit = True
    serving.result(60)


def test_objects_pass(endpoint: Running) -> None:
    s3 = endpoint.s3()
    body = os.urandom(20_000_000)
    s3.put_object(Bucket=BUCKET, Key="large", Body=body)
    assert s3.get_object(Bucket=BUCKET, Key="large")["Body"].read() == body


def test_a_fault_meets_the_first_request_after_it_was_seeded(endpoint: Running) -> None:
    s3 = endpoint.s3()
    for turn in range(20):
        fault = endpoint.faults.add(Fault(Kind.SLOW_DOWN, bucket=BUCKET, times=1))
        with pytest.raises(ClientError, match="reduce your request rate"):
            s3.put_object(Bucket=BUCKET, Key=f"{turn}", Body=b"x")
        assert endpoint.faults.listing()[0]["taken"] == 1
        endpoint.faults.remove(fault.id)
        s3.put_object(Bucket=BUCKET, Key=f"{turn}", Body=b"x")


def test_it_is_started_again(endpoint: Running) -> None:
    kept, killed = endpoint.line(), endpoint.pid
    assert asked(kept) == os.getpid()
    os.kill(killed, signal.SIGKILL)
    until(lambda: endpoint.front.pid not in (None, killed))
    assert asked(kept) == os.getpid()
    endpoint.s3(attempts=5).put_object(Bucket=BUCKET, Key="after", Body=b"x")
    assert asked(endpoint.line()) == os.getpid()


def test_one_that_hangs_is_killed_and_started_again(
    embedded_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(front_module, "MISSED_BEATS", 40)
    with running(embedded_store.endpoint) as made:
        hung = made.pid
        assert status_of_s3(made.line()) == 403
        os.kill(hung, signal.SIGSTOP)
        until(lambda: made.front.pid not in (None, hung))
        assert status_of_s3(made.line()) == 403


def test_a_fault_is_seeded_when_the_process_knows_it(endpoint: Running) -> None:
    os.kill(endpoint.pid, signal.SIGSTOP)
    try:
        fault = Fault(Kind.SLOW_DOWN, bucket="another", times=1)
        adding = threading.Thread(target=endpoint.faults.add, args=(fault,))
        adding.start()
        adding.join(0.5)
        assert adding.is_alive()
    finally:
        os.kill(endpoint.pid, signal.SIGCONT)
    adding.join(60)
    assert not adding.is_alive()
    endpoint.faults.remove(fault.id)


def test_signals_do_not_end_it(endpoint: Running) -> None:
    """A service manager sends them to all processes of the emulator."""
    before = endpoint.pid
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(before, number)
    endpoint.s3().put_object(Bucket=BUCKET, Key="after", Body=b"x")
    assert endpoint.pid == before


def test_it_is_not_started_again_once_it_is_to_stop(embedded_store: EmbeddedStore) -> None:
    with running(embedded_store.endpoint) as made:
        assert status_of_s3(made.line()) == 403
        before = made.pid
        made.front.stop()
        os.kill(before, signal.SIGKILL)
        made.front.end()
        made.front._start_again()
        assert made.pid == before


def test_a_store_that_is_away_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        availability = Availability(lambda: "It is being repaired.")
        store = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            running(store, availability) as made,
            pytest.raises(ClientError, match="It is being repaired") as error,
        ):
            made.s3().list_buckets()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert availability.away_since(0)


def test_it_ends_with_the_emulator() -> None:
    program = (
        "from emulator.aws.front.front import Front; import time\n"
        "front = Front(); front.start(); print(front.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    until(
        lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text()
    )
