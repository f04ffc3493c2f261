"""What the platform asks containers itself: GET /ping, and other paths."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse

PING_SECONDS = 2.0
"""For each ping (developer guide)."""


@contextmanager
def answer_of(dial: Callable[[], socket.socket], path: str) -> Iterator[HTTPResponse]:
    """The answer to a GET, as long as the context lasts.

    Each step of it may take PING_SECONDS. Raises OSError and HTTPException.
    """
    connection = HTTPConnection("localhost")
    connection.auto_open = 0
    connection.sock = dial()
    try:
        connection.sock.settimeout(PING_SECONDS)
        connection.request("GET", path, headers={"Connection": "close"})
        yield connection.getresponse()
    finally:
        connection.close()


def ping(dial: Callable[[], socket.socket]) -> bool:
    """Whether the container answers a ping with 200 in time. Raises nothing."""
    try:
        with answer_of(dial, "/ping") as answer:
            return answer.status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
