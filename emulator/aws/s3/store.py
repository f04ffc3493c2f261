"""Connections to the object store: HTTP/1.1 on bare transports, one exchange at a time each."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from emulator.aws.signatures import Headers

log = logging.getLogger(__name__)

_IDLE_CONNECTIONS = 128
_IDLE_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 0.2
_NO_BODY = (204, 304)


class StoreUnavailable(Exception):
    """The store cannot be reached."""


class Asking(Protocol):
    """What a connection to the store tells whoever uses it."""

    def answer_started(self, status: int, reason: bytes, headers: Headers, sized: bool) -> None:
        """The head has come. `sized`: the headers say where the body ends, or there is none."""

    def answer_body(self, data: bytes) -> None:
        """The next piece of the body, without any framing."""

    def answer_complete(self) -> None:
        """The answer has come to its end."""

    def answer_pause(self) -> None:
        """All that has been read was handed on; more may come."""

    def store_lost(self) -> None:
        """The connection ended before the answer did."""

    def store_blocked(self, blocked: bool) -> None:
        """Does the store take no more of the request for the moment?"""


class StoreConnection(asyncio.Protocol):
    """One connection; `carry` lends it to an exchange until that has its answer."""

    def __init__(self, pool: StorePool):
        self._pool = pool
        self._user: Asking | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: Headers = []
        self._reason = b""
        self._interim = False
        self._ends_with_connection = False
        self._head_only = False
        self._reusable = False
        self.idle_since = 0.0
        self.was_used = False
        """Has it carried an exchange before? Then the store may have closed it meanwhile."""

    def carry(self, user: Asking, head_only: bool) -> None:
        """Serve this user; `head_only` where the request is HEAD, whose answer has no body."""
        self._user = user
        self._head_only = head_only
        self._parser = httptools.HttpResponseParser(self)
        self._ends_with_connection = False

    def release(self, clean: bool) -> None:
        """The user needs it no more; `clean` if it has sent its request to the end."""
        self._user = None
        self._parser = None
        self.was_used = True
        if clean and self._reusable and not self.transport.is_closing():
            self.transport.resume_reading()
            self._pool.give_back(self)
        else:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:  # nobody asked
            self.transport.abort()
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            log.warning("the object store's answer is no HTTP: %s", error)
            self._reusable = False
            self.transport.abort()
            return
        if self._user is not None:
            self._user.answer_pause()

    def eof_received(self) -> None:
        if self._ends_with_connection:
            self._finish(reusable=False)
            if self._user is not None:
                self._user.answer_pause()

    def connection_lost(self, _: Exception | None) -> None:
        self._pool.lost(self)
        user, self._user = self._user, None
        if user is not None:
            user.store_lost()

    def pause_writing(self) -> None:
        if self._user is not None:
            self._user.store_blocked(True)

    def resume_writing(self) -> None:
        if self._user is not None:
            self._user.store_blocked(False)

    # httptools

    def on_message_begin(self) -> None:
        if self._parser is None:  # more than was asked for
            self._reusable = False
        self._headers = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._parser is None or self._user is None:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            return
        bodyless = self._head_only or status in _NO_BODY
        names = {name for name, _ in self._headers}
        sized = bodyless or b"content-length" in names
        self._ends_with_connection = not sized and b"transfer-encoding" not in names
        self._user.answer_started(status, self._reason, self._headers, sized)
        if bodyless:
            self._finish(reusable=(b"connection", b"close") not in self._headers)

    def on_body(self, body: bytes) -> None:
        if self._user is not None and self._parser is not None:
            self._user.answer_body(body)
        else:
            self._reusable = False

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self._parser is not None:
            self._finish(reusable=self._parser.should_keep_alive())

    def _finish(self, reusable: bool) -> None:
        self._reusable = reusable
        self._ends_with_connection = False
        self._parser = None
        if self._user is not None:
            self._user.answer_complete()


class StorePool:
    """The connections to one store; belongs to one event loop."""

    def __init__(self, endpoint: str, patience: float = 0):
        """`endpoint` is the store's base URL.

        For `patience` seconds a refused connection is tried again: a store may be starting.
        """
        parts = urlsplit(endpoint)
        self._host = parts.hostname or "127.0.0.1"
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._ssl else 80)
        self._patience = patience
        self._idle: list[StoreConnection] = []
        self._open: set[StoreConnection] = set()

    def idle_connection(self) -> StoreConnection | None:
        """The one that was used last; None if a new one must be made."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.transport.is_closing():
                continue
            if now - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.transport.abort()
        return None

    async def connect(self) -> StoreConnection:
        """A new connection; raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            try:
                _, connection = await asyncio.wait_for(
                    loop.create_connection(
                        lambda: StoreConnection(self), self._host, self._port, ssl=self._ssl
                    ),
                    _CONNECT_SECONDS,
                )
            except (OSError, asyncio.TimeoutError) as error:
                if loop.time() >= deadline:
                    raise StoreUnavailable(str(error) or "timeout") from error
            else:
                return connection
            await asyncio.sleep(_RETRY_SECONDS)

    def give_back(self, connection: StoreConnection) -> None:
        """Keep it for the next exchange."""
        if len(self._idle) >= _IDLE_CONNECTIONS:
            connection.transport.abort()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def opened(self, connection: StoreConnection) -> None:
        self._open.add(connection)

    def lost(self, connection: StoreConnection) -> None:
        self._open.discard(connection)
        with suppress(ValueError):
            self._idle.remove(connection)

    def close(self) -> None:
        """Break all connections off."""
        for connection in tuple(self._open):
            connection.transport.abort()
