"""Who may use the routes below /_emulator: this machine's user, and whoever has the token.

Jobs may not: they would seed faults for other jobs. A job comes in on a socket of its own
network (`ForJobs`), from a container's address, or through a proxy to one of this machine's
addresses; none of that is a loopback connection. See docs/adr/0018-confinement.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

PREFIX = "/_emulator"
HEALTH = f"{PREFIX}/health"
_FROM_JOB = "emulator.from_job"
"""A key of our own in the ASGI scope."""


class ForJobs:
    """The endpoint as a job sees it: an ASGI application without the admin routes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        await self._app({**scope, _FROM_JOB: True}, receive, send)


class AdminAccess:
    """A FastAPI dependency that refuses (403) who may not use the admin routes."""

    def __init__(self, token: str, trust_loopback: Callable[[], bool]):
        """`trust_loopback` says whether every loopback connection is the user's own.

        It is not where jobs share this machine's network.
        """
        self._token = token
        self._trust_loopback = trust_loopback

    def __call__(self, request: Request) -> None:
        """Raises HTTPException."""
        if request.scope.get(_FROM_JOB):
            raise HTTPException(403, f"Jobs have no access to {PREFIX}.")
        if self._has_token(request.headers):
            return
        if not (self._trust_loopback() and _is_local(request.scope, request.headers)):
            raise HTTPException(
                403,
                f"{PREFIX} is for loopback connections of this machine. From elsewhere, and where "
                "jobs share this machine's network, send the header `Authorization: Bearer "
                "$EMULATOR_ADMIN_TOKEN`; `sagemaker-emulator env` exports that variable.",
            )

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode()
        return scheme.lower() == "bearer" and secrets.compare_digest(given, self._token.encode())


def _is_local(scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether a program of this machine asked, and neither a web page nor a rebound name."""
    host = headers.get("host", "")
    origin = headers.get("origin")
    client = scope.get("client")
    return (
        client is not None
        and _is_loopback(client[0])
        and _is_loopback(_name(host))
        and origin in (None, f"http://{host}")
    )


def _name(host: str) -> str:
    """The name or address in a Host header; "" where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback
