"""Whether and what a server at a URL answers; nothing here goes through a proxy."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

ADMIN = "/_emulator"
HEALTH = f"{ADMIN}/health"
TIMEOUT_SECONDS = 60


def connection(url: str, timeout: float = TIMEOUT_SECONDS) -> HTTPConnection:
    """A connection to the server of a URL, never through a proxy that this shell may have.

    Raises ValueError if it is no URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no URL")
    made = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return made(parts.hostname, parts.port, timeout=timeout)


def unreachable(url: str, timeout: float = 3) -> str:
    """Why nothing can be asked of the server at `url`; "" where something listens."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout).close()
    except (OSError, ValueError) as error:
        return f"{url} does not answer: {error}"
    return ""


def health(url: str, timeout: float = 2) -> dict[str, Any] | None:
    """What an emulator at `url` says about itself; None if none answers."""
    try:
        with closing(connection(url, timeout)) as opened:
            opened.request("GET", HEALTH)
            said = json.load(opened.getresponse())
    except (OSError, ValueError, HTTPException):
        return None
    running = isinstance(said, dict) and said.get("status") in ("ok", "degraded")
    return said if running else None
