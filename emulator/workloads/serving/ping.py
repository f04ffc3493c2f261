"""Whether a container is ready: GET /ping."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable

PING_SECONDS = 2.0
"""For each ping (developer guide)."""


def ping(dial: Callable[[], socket.socket]) -> bool:
    """Whether the container answers a ping with 200 in time. Raises nothing."""
    try:
        connection = http.client.HTTPConnection("localhost", timeout=PING_SECONDS)
        connection.sock = dial()
        try:
            connection.sock.settimeout(PING_SECONDS)
            connection.request("GET", "/ping", headers={"Connection": "close"})
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
