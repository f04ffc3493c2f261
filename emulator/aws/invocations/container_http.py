"""HTTP/1.1 to containers, on bare transports: one request at a time on each connection."""

from __future__ import annotations

import asyncio
from collections import deque

import httptools

Headers = list[tuple[bytes, bytes]]
"""Header lines as they came, names in lower case."""

_HIGH_WATER = 256 * 1024
"""Bytes of an answer that are kept before its reader has taken them."""
_SWITCHING = 101


class ConnectionBroken(Exception):
    """The connection ended, or was given up, before the answer was complete."""


class AnswerTimeout(ConnectionBroken):
    """The answer did not come in time."""


class ContainerConnection(asyncio.Protocol):
    """One connection to a container. All methods belong to its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.was_used = False
        """It has carried a request before: the container may have closed it meanwhile."""
        self.is_open = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Headers = []
        self.has_answered = False
        """Any byte of the answer has come."""
        self._asked = False
        """A request has been sent."""
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        self._head_is_there = False
        self._is_complete = False
        self._keep_alive = False
        self._error: ConnectionBroken | None = None

    # What its user does

    def send(self, head: bytes, body: bytes, seconds: float) -> None:
        """Send a request; its answer has to be complete within `seconds`."""
        if not self.is_open:
            raise ConnectionBroken("the connection was closed")
        self._asked = True
        self._timer = self._loop.call_later(seconds, self._expire)
        # Small requests go out in one packet.
        if len(body) < _HIGH_WATER:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    async def head(self) -> int:
        """The status, once the headers are there. Raises ConnectionBroken."""
        while not self._head_is_there:
            await self._wait()
        return self.status

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end. Raises ConnectionBroken."""
        while not self._pieces and not self._is_complete:
            await self._wait()
        if not self._pieces:
            return b""
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._kept > _HIGH_WATER and self.is_open:
            self.transport.resume_reading()
        self._kept = 0
        return piece

    def header(self, name: bytes) -> bytes | None:
        """A header of the answer."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def finish(self) -> bool:
        """The user needs it no more; whether another request can be sent on it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not (self.is_open and self._is_complete and self._keep_alive) or self._pieces:
            self.close()
            return False
        self.was_used = True
        self._begin()
        return True

    def close(self) -> None:
        """End it, whatever is on its way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_open:
            self.is_open = False
            self.transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ConnectionBroken) -> None:
        if not self._is_complete and self._error is None:
            self._error = error
        self._wake()

    def _expire(self) -> None:
        self._timer = None
        self._fail(AnswerTimeout("the answer took too long"))
        self.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if not self._asked:  # nothing that comes now is the answer to the next request
            self.close()
            return
        self.has_answered = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionBroken(f"the answer is no HTTP: {error}"))
            self.close()
            return
        if self._kept > _HIGH_WATER:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        if self._head_is_there and not self._is_framed():
            self._is_complete = True
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._fail(ConnectionBroken(str(exc) if exc else "the connection was closed"))

    # httptools

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise ValueError("a second answer to one request")
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._head_is_there = self.status >= 200 or self.status == _SWITCHING
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._kept += len(body)

    def on_message_complete(self) -> None:
        if self._head_is_there:  # what came before were interim answers
            self._is_complete = True

    def _is_framed(self) -> bool:
        """Whether the headers say where the body ends."""
        return any(
            name == b"content-length"
            or (name == b"transfer-encoding" and b"chunked" in value.lower())
            for name, value in self.headers
        )
