"""What HTTP proxies are made of: who is meant, which way leads there, bytes both ways."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote, urlsplit

LOOPBACK = "127.0.0.1"
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head; browsers and SDKs stay far below."""
CHUNK = 256 * 1024
CONNECT_SECONDS = 30
_CONNECT = re.compile(r"CONNECT \[?([^\s\]]+?)\]?:(\d{1,5}) HTTP/1\.[01]")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Target = TypeVar("_Target", bound="Target")


@dataclass(frozen=True)
class Target:
    """Where a client wants to be connected to."""

    host: str
    port: int

    @classmethod
    def parse(cls: type[_Target], request_line: str) -> _Target | None:
        """Read `CONNECT host:port HTTP/1.1`; None for any other request."""
        match = _CONNECT.fullmatch(request_line)
        return cls(match[1].lower(), int(match[2])) if match else None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Upstream:
    """The proxy that this machine itself has to use."""

    host: str
    port: int
    authorization: str = ""

    @classmethod
    def for_host(
        cls, host: str, own_port: int, ambient: Mapping[str, str], scheme: str = "https"
    ) -> Upstream | None:
        """The proxy `ambient` names for `host`; None for a direct connection.

        `own_port` is on loopback and never taken for another proxy.
        """
        # Upper-case HTTP_PROXY counts: no server of ours takes its variables from requests.
        value = ambient.get(f"{scheme}_proxy") or ambient.get(f"{scheme.upper()}_PROXY")
        exceptions = ambient.get("no_proxy") or ambient.get("NO_PROXY", "")
        if not value or _excepted(host, exceptions):
            return None
        parts = urlsplit(value if "//" in value else f"http://{value}")
        # `up` may run in a shell that was pointed at this very proxy.
        if parts.hostname is None or (parts.hostname, parts.port) == (LOOPBACK, own_port):
            return None
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        token = base64.b64encode(credentials.encode()).decode() if parts.username else ""
        return cls(parts.hostname, parts.port or 80, token and f"Basic {token}")


def _excepted(host: str, exceptions: str) -> bool:
    names = [name.strip().lstrip(".").lower() for name in exceptions.split(",") if name.strip()]
    return any(name == "*" or host == name or host.endswith(f".{name}") for name in names)


async def connect(host: str, port: int) -> Streams:
    """A connection of this machine; raises OSError."""
    return await asyncio.open_connection(host, port, limit=HEAD_LIMIT)


async def connect_through(upstream: Upstream, target: Target) -> Streams:
    """A tunnel to the target by the other proxy's CONNECT; raises OSError and EOFError."""
    reader, writer = await connect(upstream.host, upstream.port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if upstream.authorization:
        lines.append(f"Proxy-Authorization: {upstream.authorization}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            raise ConnectionError(answer.split(b"\r\n", 1)[0].decode("latin-1"))
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def splice(one: Streams, other: Streams) -> None:
    """Carry bytes both ways until both ends are done."""
    try:
        await asyncio.gather(_copy(one[0], other[1]), _copy(other[0], one[1]))
    finally:
        one[1].close()
        other[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A peer that resets its connection ends the copy like one that closes it.
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    if writer.can_write_eof():
        with suppress(OSError):
            writer.write_eof()
    else:
        writer.close()
