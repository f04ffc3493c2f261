from __future__ import annotations

import asyncio
import socket

import pytest
from fastapi import FastAPI

from emulator.app import _Doors, reached_at


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


def test_a_job_that_is_late_finds_no_open_door() -> None:
    doors = _Doors()

    async def attach() -> None:
        doors.attach(FastAPI())

    asyncio.run(attach())
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(OSError, match="any"):
        doors.open(listening)
