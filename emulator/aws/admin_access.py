"""Who may use the routes below /_emulator: this machine's user, and whoever has the token.

Jobs may not: they would seed faults for other jobs. A job comes in on a socket of its own
network (`ForJobs`), from a container's address, or through a proxy to one of this machine's
addresses; none of that is a loopback connection. See docs/adr/0018-confinement.md.

A browser has more to prove than a program: any page that its user opens can send requests from
it. See docs/adr/0026-pages.md.
"""

from __future__ import annotations

import hashlib
import hmac
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
CSRF_HEADER = "x-emulator-csrf"
"""What a page of this emulator sends with each request that changes something."""
_FROM_JOB = "emulator.from_job"
"""A key of our own in the ASGI scope."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_OTHER_SITES = ("cross-site", "same-site")
"""Values of Sec-Fetch-Site. Jobs may listen on other ports of this machine: the same site."""


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
        self.csrf_token = _derived(token, "csrf")
        """Known to the pages of this emulator alone: other origins cannot read them."""
        # Cookies are sent to all ports of a host: emulators side by side need different names.
        self.cookie_name = f"emulator_{_derived(token, 'cookie name')[:12]}"
        self.cookie = _derived(token, "cookie")
        """For the browser of somebody who has the token. It is not the token itself: servers on
        other ports of the same host get to see it."""

    def __call__(self, request: Request) -> None:
        """Raises HTTPException."""
        refuse_jobs(request)
        if self._has_token(request.headers):
            return
        headers = request.headers
        given = request.cookies.get(self.cookie_name, "").encode()
        signed_in = secrets.compare_digest(given, self.cookie.encode()) and _is_own_page(headers)
        if not (signed_in or (self._trust_loopback() and _is_local(request.scope, headers))):
            raise HTTPException(
                403,
                f"{PREFIX} is for loopback connections of this machine. From elsewhere, and where "
                "jobs share this machine's network, send the header `Authorization: Bearer "
                "$EMULATOR_ADMIN_TOKEN`; `sagemaker-emulator env` exports that variable.",
            )
        if request.method not in _SAFE and _is_browser(headers, signed_in):
            self._check_csrf(headers)

    def admits(self, token: str) -> bool:
        """Whether this is the token."""
        return secrets.compare_digest(token.strip().encode(), self._token.encode())

    def needs_token(self, host: str) -> bool:
        """Whether a browser needs the token for an emulator that listens on `host`."""
        return not (self._trust_loopback() and _is_loopback(host))

    def _check_csrf(self, headers: Mapping[str, str]) -> None:
        given = headers.get(CSRF_HEADER, "").encode()
        if not secrets.compare_digest(given, self.csrf_token.encode()):
            raise HTTPException(
                403, "This page is older than the emulator that answers. Load it again."
            )

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.admits(token)


def refuse_jobs(request: Request) -> None:
    """Raises HTTPException (403) for a request from a job's own network."""
    if request.scope.get(_FROM_JOB):
        raise HTTPException(403, f"Jobs have no access to {PREFIX}.")


def _derived(token: str, purpose: str) -> str:
    """A secret that follows from the token and does not tell it."""
    return hmac.new(token.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def _is_browser(headers: Mapping[str, str], signed_in: bool) -> bool:
    """Browsers tell the origin of each request that may change something (Fetch standard)."""
    return signed_in or "origin" in headers or "sec-fetch-site" in headers


def _is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether no page of another origin made a browser send this.

    A link on such a page may lead here: the browser then shows the answer to the user alone.
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
        return False
    from_other = headers.get("sec-fetch-site") in _OTHER_SITES
    return not from_other or headers.get("sec-fetch-mode") == "navigate"


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
        and _is_own_page(headers)
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
