"""The way out of a job's own network: an HTTP proxy that connects from this machine.

    CONNECT host:port              ->  bytes pass through untouched, TLS end to end
    GET http://host/path HTTP/1.1  ->  the same request to that host, one a connection

It goes the way the emulator itself would go, through another proxy if there is one. This
machine's own loopback services are not to be had: an instance on AWS has no such neighbours. That
holds for a proxy on this machine as well, which would connect to them for the job. The
emulator is the exception: clients on AWS's C runtime (awscrt, s3torchconnector) ask the proxy for
that, too, because they do not read NO_PROXY.

A request is written anew from what was understood of it, so that the other proxy does not
understand another host.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping
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
_PLAIN = re.compile(
    r"([A-Z]+) http://(\[[^\]\s]+\]|[^/:?#\s]+)(?::(\d{1,5}))?((?:[/?]\S*)?) (HTTP/1\.[01])"
)
_HOP = re.compile(rb"(connection|proxy-[a-z-]+|keep-alive|host):", re.IGNORECASE)
"""Headers that are not passed on as they are."""
_NAME = re.compile(r"[a-z0-9_.-]+")

_THIS_MACHINE = "Jobs do not reach the loopback interface of this machine."


class _Refused(Exception):
    """The target is none that an instance may reach; the text says why."""


def refuse_none(_: str) -> str:
    """Every host that is not this machine may be reached."""
    return ""


class ForwardProxy:
    """Serves one listening socket, in a thread of its own."""

    def __init__(
        self,
        listening: socket.socket,
        ambient: Mapping[str, str],
        port: int,
        door: Target | None = None,
        refuse: Callable[[str], str] = refuse_none,
    ):
        """`ambient` names this machine's proxies, as in the environment; takes the socket over.

        `port` is the emulator's own, which trusts this machine's user, and by which a job knows
        the emulator on its own loopback interface. `door` is where the emulator answers jobs.
        `refuse` says why a host is not to be reached ("" if it is).
        """
        self._ambient = ambient
        self._port = port
        self._door = door
        self._refuse = refuse
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
        except _Refused as refusal:
            _log.info("A job was refused its way out: %s", refusal)
            _reply(writer, f"403 {refusal}")  # all that clients show of a refused tunnel
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
        upstream = await self._upstream(target, "https")
        peer = await (connect_through(upstream, target) if upstream else self._connect(target))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return peer

    async def _open_plain(self, line: str, head: bytes) -> Streams:
        match = _PLAIN.fullmatch(line)
        if match is None:
            raise ValueError(line)
        method, name, port, path, version = match.groups()
        target = Target(name.strip("[]").lower(), int(port or 80))
        upstream = await self._upstream(target, "http")
        host = f"{name}:{port}" if port else name
        path = path if path.startswith("/") else f"/{path}"
        if upstream:
            peer = await connect(upstream.host, upstream.port)
            line = f"{method} http://{host}{path} {version}"
            peer[1].write(_closing(line, host, head, upstream.authorization))
        else:
            peer = await self._connect(target)
            peer[1].write(_closing(f"{method} {path} {version}", host, head))
        return peer

    async def _upstream(self, target: Target, scheme: str) -> Upstream | None:
        """Raises _Refused for what may not be reached, and ValueError for what is no host."""
        if target.port > 65535 or not (_NAME.fullmatch(target.host) or _address(target.host)):
            raise ValueError(target)
        if self._is_emulator(target):
            return None
        if _is_this_machine(target.host):
            raise _Refused(_THIS_MACHINE)
        if reason := self._refuse(target.host):
            raise _Refused(reason)
        upstream = Upstream.for_host(target.host, 0, self._ambient, scheme)
        if upstream and await _is_local(upstream.host):
            # By any name: it may mean something else by the time that the other proxy asks.
            if target.port == self._port:
                raise _Refused(_THIS_MACHINE)
            if any(map(_is_this_machine, await _addresses_known(target))):
                raise _Refused(_THIS_MACHINE)
        return upstream

    async def _connect(self, target: Target) -> Streams:
        if self._door and self._is_emulator(target):
            return await connect(self._door.host, self._door.port)
        return await _connect(target)

    def _is_emulator(self, target: Target) -> bool:
        asked = target.port == self._port and _is_this_machine(target.host)
        return self._door is not None and asked


def _reply(writer: asyncio.StreamWriter, status: str) -> None:
    lines = (f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", "", "")
    with suppress(OSError):
        writer.write("\r\n".join(lines).encode())


def _closing(line: str, host: str, head: bytes, authorization: str = "") -> bytes:
    """The head with another first line and Host; the connection ends with the answer.

    The next request on it might be for another host.
    """
    kept = [header for header in head.split(b"\r\n")[1:] if header and not _HOP.match(header)]
    if authorization:
        kept.append(f"Proxy-Authorization: {authorization}".encode())
    first = [line.encode("latin-1"), f"Host: {host}".encode("latin-1")]
    return b"\r\n".join([*first, *kept, b"Connection: close", b"", b""])


async def _connect(target: Target) -> Streams:
    """Directly; raises _Refused where the name leads back to this machine, and OSError."""
    addresses = await _addresses(target)
    if any(map(_is_this_machine, addresses)):
        raise _Refused(_THIS_MACHINE)
    for address in addresses[:-1]:
        with suppress(OSError):
            return await connect(address, target.port)
    return await connect(addresses[-1], target.port)


async def _addresses(target: Target) -> list[str]:
    """Raises OSError for a name that this machine does not know."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def _addresses_known(target: Target) -> list[str]:
    """None for a name that perhaps another proxy knows."""
    try:
        return await _addresses(target)
    except OSError:
        return []


async def _is_local(host: str) -> bool:
    """Whether a server of that name runs on this machine."""
    return any(map(_is_own, await _addresses_known(Target(host, 0))))


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _is_this_machine(host: str) -> bool:
    """Whether a name or an address stands for the loopback interface."""
    host = host.rstrip(".")
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
