"""The endpoint's connections: S3 requests go to the object store's, all others to ASGI.

Where two processes share the work, a connection goes to the one that serves its next request.

uvicorn parses every request (with llhttp, which refuses what two parsers could read in two
ways); an S3 request then never enters the web framework.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from enum import Enum
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from emulator.aws.s3.exchange import Exchange
from emulator.aws.s3.proxy import S3Proxy
from emulator.aws.s3.recognition import is_s3
from emulator.aws.signatures import SignedRequest, signer_of
from emulator.aws.wire.http import HttpRequest

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers. AWS takes 8 KiB; presigned URLs are longer than that."""

_PAGES = "/_emulator"
"""No bucket's name begins with an underscore."""
_VERSIONS = ("1.0", "1.1")
_LINGER_SECONDS = 5.0
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 1.0
_DRAIN_SECONDS = 60.0
"""For a client to take the answer before the request for which its connection is handed over."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


HandOver = Callable[[int, bytes], None]
"""Gives a connection (its file, to be closed by the taker) and all that was received of its next
request to the process that serves it."""


def endpoint_protocol(
    s3: S3Proxy | None, hand_over: HandOver | None = None
) -> type[asyncio.Protocol]:
    """What uvicorn makes for each connection (its setting `http`).

    With `hand_over`, another process serves what this one does not: S3 where `s3` is None,
    else all that is not for S3.
    """

    class Bound(EndpointProtocol):
        def __init__(self, *args: Any, **more: Any):
            super().__init__(s3, hand_over, b"", *args, **more)

    return Bound


async def take_connection(
    connection: socket.socket,
    received: bytes,
    s3: S3Proxy | None,
    hand_over: HandOver,
    server: uvicorn.Server,
    app_state: dict[str, Any],
) -> None:
    """Serve a connection that another process handed over, with what it had received."""
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: EndpointProtocol(
            s3,
            hand_over,
            received,
            config=server.config,
            server_state=server.server_state,
            app_state=app_state,
        ),
        connection,
    )


log = logging.getLogger(__name__)


class _Reading(Enum):
    """What of a request comes next."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class _JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once.

    uvicorn writes the head and the body of an answer one by one. Sent one by one, they would be two
    packets and wake the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            held, self._held = self._held, []
            if not self._transport.is_closing():
                self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class EndpointProtocol(HttpToolsProtocol):
    """One client's connection.

    `cycle` is the request that is read, as in uvicorn: an Exchange where it is for S3.
    """

    cycle: RequestResponseCycle | Exchange | None  # type: ignore[assignment]

    def __init__(
        self,
        s3: S3Proxy | None,
        hand_over: HandOver | None,
        received: bytes,
        *args: Any,
        **more: Any,
    ):
        """`received` is what another process had read of a connection that it handed over."""
        super().__init__(*args, **more)
        self._s3 = s3
        self._hand_over = hand_over
        self._received = received
        self._head: list[bytes] = []
        """All that was received of the request whose head is read, kept to hand it over."""
        self._messages = 0
        """Those that began in the piece of data that is read."""
        self._knows_beginning = False
        """Is it known where in the data the request that is read begins?"""
        self._piece = b""
        self._body_of_piece = 0
        """Bytes of a body at the beginning of the piece of data that is read."""
        self._body_is_plain = True
        """Does the body come without chunks?"""
        self._leaving = False
        self._joined: _JoinedWrites | None = None
        """Where the answer that comes from an application is written."""
        self._answering: Exchange | None = None
        self._reading = self._before = _Reading.NOTHING
        self._head_bytes = 0
        self._body_came = False
        self._ends = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._received:  # nothing is read of the transport before this returns
            received, self._received = self._received, b""
            self.data_received(received)
            if self.flow.read_paused:  # uvloop begins to read all the same after this
                self.loop.call_soon(self._stay_paused)

    def _stay_paused(self) -> None:
        if self.flow.read_paused and not self.transport.is_closing():
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._ends:
            return
        if self._leaving:
            self._head.append(data)
            return
        before, self._body_came = self._reading, False
        if self._hand_over is not None and before is not _Reading.BODY:
            self._head.append(data)
        self._before, self._messages = before, 0
        self._piece, self._body_of_piece = data, 0
        super().data_received(data)
        self._piece = b""
        if self._leaving:
            self._leave()
            return
        if self._reading is not _Reading.HEAD:
            self._head.clear()
        # Of a head, or of the chunk extensions and trailers of a body.
        if before is self._reading is not _Reading.NOTHING and not self._body_came:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:
                self._refuse(_TOO_LONG)
        if self._answering is not None:
            self._answering.flush()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent all it wants to send may still wait for its answer."""
        if self._answering is None or self._reading is _Reading.BODY or self._ends:
            return False
        self._answering.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.client_lost()
            self._answering = None
        if isinstance(self.cycle, Exchange):
            self.cycle = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._answering is not None:
            self._answering.client_blocked(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering is not None:
            self._answering.client_blocked(False)

    # httptools

    def on_message_begin(self) -> None:
        self._messages += 1
        self._knows_beginning = self._messages == 1
        if self._messages == 1 and self._before is _Reading.BODY and self._hand_over is not None:
            # The rest of a body that was not waited for, and what the client sent next.
            self._knows_beginning = self._body_is_plain
            self._head.append(self._piece[self._body_of_piece :])
        self._reading = _Reading.HEAD
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is _Reading.BODY:
            return  # a trailer: it is no header of a request that may not have begun yet
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._leaving:
            return
        self._reading = _Reading.BODY
        self._head_bytes = 0
        if self.parser.get_http_version() not in _VERSIONS:
            raise ValueError("no HTTP/1")  # answered as whatever else is no request
        if self.parser.should_upgrade() and self._should_upgrade():
            super().on_headers_complete()
            return
        head = self._request_head()
        self._body_is_plain = "transfer-encoding" not in head.headers
        is_first = self.cycle is None or self.cycle.response_complete
        is_for_s3 = _is_for_s3(head)
        if self._hand_over is not None and is_for_s3 is (self._s3 is None):
            self._go(is_first)
            return
        if self._s3 is None or not is_for_s3:
            if self.expect_100_continue and is_first:
                # An answer instead of it would leave some clients out of step.
                self.transport.write(_CONTINUE)
                self.expect_100_continue = False
            super().on_headers_complete()
            return
        self.cycle = self._s3.exchange(
            SignedRequest(head.method, head.path, head.query, self.headers),
            self,
            expects_continue=self.expect_100_continue,
            keep_alive=self.parser.should_keep_alive() and not self.parser.should_upgrade(),
            http_10=self.parser.get_http_version() == "1.0",
        )
        if is_first:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
        if self._leaving or self._ends:
            return
        if self._messages == 0:
            self._body_of_piece += len(body)
        self._body_came = True
        self._head_bytes = 0
        if isinstance(self.cycle, Exchange):
            self.cycle.body_received(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._leaving or self._ends:
            return
        self._reading = _Reading.NOTHING
        if isinstance(self.cycle, Exchange):
            self.cycle.body_complete()
        else:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self._answering = cycle
            # The transport says so once, perhaps during an earlier answer.
            cycle.client_blocked(self.flow.write_paused)
            cycle.start()
        else:
            self._joined = cycle.transport = _JoinedWrites(self.transport, self.loop)
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self._joined is not None:  # before what anybody else writes
            self._joined.flush()
            self._joined = None
        super().on_response_complete()  # begins the next request, if that has come already
        if self._answering is not None:
            self._answering.flush()

    def send_400_response(self, msg: str) -> None:
        if self._leaving:
            return  # whoever takes the connection reads all of it again
        if self._answers_another():
            self._end_after_answer()
        else:
            super().send_400_response(msg)

    def _request_head(self) -> HttpRequest:
        url = self.url
        if url.startswith(b"/"):
            path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)  # absolute, as proxies are asked
            path, query = parsed.path or b"/", parsed.query or b""
        return HttpRequest(
            method=self.parser.get_method().decode("ascii"),
            path=path.decode("latin-1"),
            query=query.decode("latin-1"),
            headers={n.decode("latin-1"): v.decode("latin-1") for n, v in self.headers},
        )

    # What an exchange asks of its client (s3_exchange.Client)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def read_on(self, wanted: bool) -> None:
        if not wanted:
            self.flow.pause_reading()
        elif not self.pipeline:
            self.flow.resume_reading()

    def date_header(self) -> bytes:
        for name, value in self.server_state.default_headers:
            if name == b"date":
                return b"date: %b\r\n" % value
        return b""

    def exchange_complete(self, linger: bool) -> None:
        answered, self._answering = self._answering, None
        if answered is None or not answered.keep_alive:
            self._end(linger or self._ends)
        elif self.pipeline:
            # Each may complete at once: from here, a long line of them would nest too deeply.
            self.loop.call_soon(self.on_response_complete)
        else:
            self.on_response_complete()

    def abort(self) -> None:
        self._ends = True
        self.transport.abort()

    # Connections that another process serves

    def _go(self, is_first: bool) -> None:
        """The request that is read is for the other process."""
        if is_first and self._knows_beginning:
            self._leaving = True
        elif is_first:
            self._end(linger=False)
        else:
            # Sent ahead of answers that come from here: the client has to send it again.
            self._ends = True
            if self.cycle is not None:
                self.cycle.keep_alive = False

    def _leave(self, pause: float = _FIRST_LOOK, left: float = _DRAIN_SECONDS) -> None:
        """Hand the connection over, with all that was received of its request.

        The answer before that goes out first: this looks again after a `pause`, and breaks the
        connection off when no time is `left`.
        """
        self.flow.pause_reading()
        if self._hand_over is None or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():  # of the answer before this request
            if left <= 0:
                self.abort()
            else:
                longer = min(2 * pause, _LONGEST_LOOK)
                self.loop.call_later(pause, self._leave, longer, left - pause)
            return
        self._ends = True
        try:
            connection = os.dup(self.transport.get_extra_info("socket").fileno())
        except OSError as error:
            log.error("a connection is closed, since it cannot be handed over: %s", error)
            self.transport.abort()
            return
        self.transport.abort()  # ends this process's use of it alone
        self._hand_over(connection, b"".join(self._head))

    def _refuse(self, answer: bytes) -> None:
        """Answer what cannot be read as a request, and close the connection."""
        if self._answers_another():
            self._end_after_answer()
        else:
            self.transport.write(answer)
            self._end(linger=True)

    def _answers_another(self) -> bool:
        """Is an answer on its way to a request before the one that is read?

        Whatever were written now would become a part of it.
        """
        return self._answering is not None and not (
            self._answering is self.cycle and self._reading is _Reading.BODY
        )

    def _end_after_answer(self) -> None:
        if self._answering is not None:
            self._answering.keep_alive = False
        self._ends = True

    def _end(self, linger: bool) -> None:
        """Close the connection; `linger` until the client has had time to read the answer.

        Closing while the client still sends would reset the connection, and the answer be lost.
        """
        self._ends = True
        if linger and self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _is_for_s3(head: HttpRequest) -> bool:
    signer = signer_of(head.headers, head.query)
    if signer is None and (head.path.startswith(_PAGES) or _is_browser_at_root(head)):
        return False
    return is_s3(head, signer)


def _is_browser_at_root(head: HttpRequest) -> bool:
    """No client of S3 that lists buckets asks for a page."""
    return (
        head.path == "/" and head.method == "GET" and "text/html" in head.headers.get("accept", "")
    )
