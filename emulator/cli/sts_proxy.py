"""An HTTPS proxy that answers for STS and for the SDKs' telemetry; all else passes through.

Both SageMaker SDKs ask STS for the caller's identity at `https://sts.<region>.amazonaws.com`,
whatever AWS_ENDPOINT_URL says (sagemaker/session.py, sagemaker/core/helper/session_helper.py).
HTTPS_PROXY is the one setting they obey there, and it holds for one shell only: a process that
does not have it reaches AWS as ever.

    CONNECT sts.<region>.amazonaws.com:443  ->  TLS ends here, the request goes to the emulator
    CONNECT sm-pysdk-t-….amazonaws.com:443  ->  TLS ends here, an empty 200 is the answer
    CONNECT anything else                   ->  bytes pass through untouched, TLS end to end

Telemetry is answered and not refused: `sagemaker.modules` of SDK v2 sends it although the user
opted out, and logs a traceback for every request that fails.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

from emulator.drivers import tunnel
from emulator.drivers.aws_hosts import TELEMETRY
from emulator.drivers.tunnel import (
    CONNECT_SECONDS,
    HEAD_LIMIT,
    LOOPBACK,
    Streams,
    Upstream,
    connect,
    connect_through,
    splice,
)

log = logging.getLogger(__name__)

_STS = re.compile(r"sts(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?")


class Route(Enum):
    """What becomes of a CONNECT."""

    EMULATOR = "emulator"
    TELEMETRY = "telemetry"
    TUNNEL = "tunnel"


class Target(tunnel.Target):
    """A target, and what becomes of a connection to it."""

    @property
    def route(self) -> Route:
        if _STS.fullmatch(self.host):
            return Route.EMULATOR
        return Route.TELEMETRY if TELEMETRY.fullmatch(self.host) else Route.TUNNEL


class StsProxy:
    """The proxy and the TLS listeners behind it."""

    def __init__(
        self,
        endpoint: str,
        tls: ssl.SSLContext,
        ambient: Mapping[str, str],
        host: str = LOOPBACK,
    ):
        """`host` is the address to listen on. `ambient` names the proxy of this machine."""
        parts = urlsplit(endpoint)
        self._emulator = Target(parts.hostname or LOOPBACK, parts.port or 80)
        self._tls = tls
        self._ambient = ambient
        self._host = host
        self._port = 0
        self._tls_ports: dict[Route, int] = {}
        self._servers: tuple[asyncio.Server, ...] = ()

    @contextmanager
    def serve(self, port: int) -> Iterator[str]:
        """Answer in a background thread; gives the URL for HTTPS_PROXY.

        A port that is taken is replaced by a free one.
        """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(self._start(port))
        thread = threading.Thread(target=loop.run_forever, name="sts-proxy", daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{self._port}"
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(self._stop())
            loop.close()

    async def _start(self, port: int) -> None:
        handlers = {Route.EMULATOR: self._answer_sts, Route.TELEMETRY: _answer_telemetry}
        inner = {
            route: await asyncio.start_server(handler, LOOPBACK, 0, ssl=self._tls)
            for route, handler in handlers.items()
        }
        try:
            outer = await asyncio.start_server(self._answer, self._host, port, limit=HEAD_LIMIT)
        except OSError:
            outer = await asyncio.start_server(self._answer, self._host, 0, limit=HEAD_LIMIT)
        self._tls_ports = {
            route: server.sockets[0].getsockname()[1] for route, server in inner.items()
        }
        self._port = outer.sockets[0].getsockname()[1]
        self._servers = (*inner.values(), outer)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _answer_sts(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Decrypted STS requests go to the emulator's own port as they are."""
        try:
            peer = await connect(self._emulator.host, self._emulator.port)
        except OSError as error:
            log.warning("The emulator does not answer at %s: %s", self._emulator, error)
            writer.close()
            return
        await splice((reader, writer), peer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_SECONDS)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            writer.close()
            return
        target = Target.parse(head.split(b"\r\n", 1)[0].decode("latin-1"))
        if target is None:
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        try:
            peer = await asyncio.wait_for(self._open(target), CONNECT_SECONDS)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.info("No connection to %s: %r", target, error)
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await splice((reader, writer), peer)

    async def _open(self, target: Target) -> Streams:
        if target.route in self._tls_ports:
            return await connect(LOOPBACK, self._tls_ports[target.route])
        upstream = Upstream.for_host(target.host, self._port, self._ambient)
        if upstream is not None:
            return await connect_through(upstream, target)
        streams = await connect(target.host, target.port)
        if self._host != LOOPBACK and _ends_here(streams[1]):
            # The endpoint takes whoever comes from its own address for this machine's user.
            streams[1].close()
            raise PermissionError(f"{target} is a port of the emulator's own machine")
        return streams


def _ends_here(writer: asyncio.StreamWriter) -> bool:
    """Whether both ends of a connection have the same address."""
    return bool(writer.get_extra_info("peername")[0] == writer.get_extra_info("sockname")[0])


async def _answer_telemetry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An empty object, as the SDKs get it from AWS; what they sent goes nowhere."""
    with suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_SECONDS)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()
