"""The way out of a job's own network: an HTTP proxy that connects from this machine.

    CONNECT host:port              ->  bytes pass through untouched, TLS end to end
    GET http://host/path HTTP/1.1  ->  the same request to that host, one a connection

It goes the way the emulator itself would go, through another proxy if there is one. This
machine's own loopback services are not to be had: an instance on AWS has no such neighbours. The
emulator is the exception: clients on AWS's C runtime (awscrt, s3torchconnector) ask the proxy for
that, too, because they do not read NO_PROXY.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from emulator.drivers.tunnel import (
    CONNECT_SECONDS,
    HEAD_LIMIT,
    Streams,
    Target,
    Upstream,
    connect,
    connect_through,
    splice,
)

_log = logging.getLogger(__name__)
_PLAIN = re.compile(r"([A-Z]+) http://(\[[^\]\s]+\]|[^/:?#\s]+)(?::(\d{1,5}))?(\S*) (HTTP/1\.[01])")
_HOP = re.compile(rb"(connection|proxy-[a-z-]+|keep-alive):", re.IGNORECASE)


class _Refused(Exception):
    """The target is none that an instance may reach."""


class ForwardProxy:
    """Serves one listening socket, in a thread of its own."""

    def __init__(
        self,
        listening: socket.socket,
        ambient: Mapping[str, str],
        emulator: tuple[int, Target] | None = None,
    ):
        """`ambient` names this machine's proxies, as in the environment; takes the socket over.

        `emulator` is the port by which the job knows the emulator on its own loopback interface,
        and where the emulator answers jobs: never its own port, which trusts this machine's user.
        """
        self._ambient = ambient
        self._emulator = emulator
        self._loop = asyncio.new_event_loop()
        serving = asyncio.start_server(self._answer, sock=listening, limit=HEAD_LIMIT)
        self._server = self._loop.run_until_complete(serving)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="forward-proxy", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Cut all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio logs a connection that was cancelled as an error; `close` does that.
        with suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Streams | None = None
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_SECONDS)
            peer = await asyncio.wait_for(self._open(head, writer), CONNECT_SECONDS)
        except ValueError:
            _reply(writer, "400 Bad Request")
        except _Refused:
            _reply(writer, "403 Forbidden")
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError) as error:
            _log.info("No way out of a job's network: %r", error)
            _reply(writer, "502 Bad Gateway")
        finally:
            if peer is None:
                writer.close()
        if peer is not None:
            await splice((reader, writer), peer)

    async def _open(self, head: bytes, writer: asyncio.StreamWriter) -> Streams:
        """Connect to whom the request's head is for, and answer or pass on that head."""
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        target = Target.parse(line)
        if target is None:
            return await self._open_plain(line, head)
        upstream = self._upstream(target, "https")
        peer = await (connect_through(upstream, target) if upstream else self._connect(target))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return peer

    async def _open_plain(self, line: str, head: bytes) -> Streams:
        match = _PLAIN.fullmatch(line)
        if match is None:
            raise ValueError(line)
        method, host, port, path, version = match.groups()
        target = Target(host.strip("[]").lower(), int(port or 80))
        upstream = self._upstream(target, "http")
        if upstream:
            peer = await connect(upstream.host, upstream.port)
            peer[1].write(_closing(line, head, upstream.authorization))
        else:
            peer = await self._connect(target)
            origin = path if path.startswith("/") else f"/{path}"
            peer[1].write(_closing(f"{method} {origin} {version}", head))
        return peer

    def _upstream(self, target: Target, scheme: str) -> Upstream | None:
        """Raises _Refused for this machine itself, but for the emulator."""
        if self._is_emulator(target):
            return None
        if _is_this_machine(target.host):
            raise _Refused
        return Upstream.for_host(target.host, 0, self._ambient, scheme)

    async def _connect(self, target: Target) -> Streams:
        if self._emulator and self._is_emulator(target):
            door = self._emulator[1]
            return await connect(door.host, door.port)
        return await _connect(target)

    def _is_emulator(self, target: Target) -> bool:
        return (
            self._emulator is not None
            and target.port == self._emulator[0]
            and _is_this_machine(target.host)
        )


def _reply(writer: asyncio.StreamWriter, status: str) -> None:
    lines = (f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", "", "")
    with suppress(OSError):
        writer.write("\r\n".join(lines).encode())


def _closing(line: str, head: bytes, authorization: str = "") -> bytes:
    """The head with another first line; the connection ends with the answer.

    The next request on it might be for another host.
    """
    kept = [header for header in head.split(b"\r\n")[1:] if header and not _HOP.match(header)]
    if authorization:
        kept.append(f"Proxy-Authorization: {authorization}".encode())
    return b"\r\n".join([line.encode("latin-1"), *kept, b"Connection: close", b"", b""])


async def _connect(target: Target) -> Streams:
    """Directly; raises _Refused where the name leads back to this machine, and OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if any(_is_this_machine(address) for address in addresses):
        raise _Refused
    for address in addresses[:-1]:
        with suppress(OSError):
            return await connect(address, target.port)
    return await connect(addresses[-1], target.port)


def _is_this_machine(host: str) -> bool:
    """Whether a name or an address stands for the loopback interface."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(host.partition("%")[0])
    # 127.1 and 0x7f000001 are addresses, too, to whoever resolves them.
    with suppress(OSError):
        return IPv4Address(socket.inet_aton(host))
    return None
