from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI

from emulator.app import _Doors, reached_at
from emulator.aws.front.front import Front


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
        ("emulator", "emulator"),
    ],
)
def test_the_emulators_url_can_be_called_whatever_it_listens_on(host: str, named: str) -> None:
    assert reached_at(host) == named


def test_a_job_that_is_early_finds_the_door_as_soon_as_there_is_one() -> None:
    doors, application = _Doors(), FastAPI()
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        opened = thread.submit(doors.open, listening.dup())

        async def attach() -> None:
            assert not opened.done()
            doors.attach(application, Front())
            close = await asyncio.to_thread(opened.result)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET /_emulator/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 404")
            writer.close()
            close()

        asyncio.run(attach())


def test_a_job_that_is_late_finds_no_open_door() -> None:
    doors = _Doors()

    async def attach() -> None:
        doors.attach(FastAPI(), Front())

    asyncio.run(attach())
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(OSError, match="any"):
        doors.open(listening)
