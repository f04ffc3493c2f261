"""One S3 request and its answer, passed between a client's connection and the store's.

Bytes go through as they come; neither side may run ahead of the other by more than the
transports buffer. The answer is held back until the client has sent its whole request:
clients that are still sending do not listen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Protocol
from uuid import uuid4
from xml.sax.saxutils import escape

from emulator.aws.s3.control import Disturbance
from emulator.aws.s3.store import StoreConnection, StorePool, StoreUnavailable
from emulator.aws.signatures import Headers, SignedRequest
from emulator.model.errors import SLOW_DOWN

log = logging.getLogger(__name__)

_HOP_BY_HOP = frozenset(
    b"connection expect keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)
_NOT_FROM_STORE = _HOP_BY_HOP | {b"date", b"server"}
_INTERNAL = (b"seaweed-", b"x-seaweedfs-", b"x-amz-tagging-")
_TAG_COUNT = b"x-amz-tagging-count"
"""S3 says how many tags an object has; SeaweedFS sends the tags, too."""
_SERVER = b"server: AmazonS3\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REPLAYED = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_REPLAYED_BYTES = 64 * 1024
_AHEAD = 64 * 1024
_SILENCE_SECONDS = 600.0
"""Without any progress; completing a large multipart upload takes the store a while."""


class Refusal(Exception):
    """An answer in S3's own form, given without asking the store."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status = status
        self.code = code


class Admission(Protocol):
    """What decides about requests before the store sees them."""

    def disturbance(self, request: SignedRequest) -> Awaitable[Disturbance] | None:
        """What seeded faults do to the request; None where none is seeded."""

    def admit(self, request: SignedRequest) -> SignedRequest:
        """The request as the store can take it; raises Refusal."""

    def reads_body(self, admitted: SignedRequest) -> bool:
        """Is the body of an admitted request to be checked before the store gets it?"""

    def check_body(self, body: bytes) -> None:
        """Raises Refusal where the store must not get this body."""

    def added_headers(self, request: SignedRequest, status: int) -> Headers:
        """Headers that AWS sends with such an answer and stores may not."""

    async def store_away(self) -> Refusal:
        """The answer where the store gave none."""


class Client(Protocol):
    """The connection that a request came on."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def read_on(self, wanted: bool) -> None:
        """Should more of the request be read?"""

    def date_header(self) -> bytes:
        """The line of a `Date` header."""

    def exchange_complete(self, linger: bool) -> None:
        """The answer is out; `linger` where the client may still send its request's body."""

    def abort(self) -> None:
        """Break the connection off: an answer that began cannot be finished."""


class Exchange:
    """Lives from a request's head to the end of its answer, in the endpoint's event loop."""

    def __init__(
        self,
        request: SignedRequest,
        client: Client,
        admission: Admission,
        pool: StorePool,
        *,
        expects_continue: bool,
        keep_alive: bool,
        http_10: bool,
    ):
        self.keep_alive = keep_alive
        """May the client's connection be used again afterwards?"""
        self.response_complete = False
        self._request = request
        self._client = client
        self._admission = admission
        self._pool = pool
        self._expects_continue = expects_continue
        self._http_10 = http_10
        self._chunks_in = bool(request.header(b"transfer-encoding"))
        self._chunks_out = False
        self._store: StoreConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._progress = 0
        self._started = False
        self._held: SignedRequest | None = None
        """What is sent to the store once the whole body has come and was checked."""
        self._to_store: list[bytes] = []
        self._waiting_bytes = 0
        self._sent: list[bytes] | None = [] if request.method in _REPLAYED else None
        """All that the store was sent, while it is little enough to be sent again."""
        self._sent_bytes = 0
        self._discards = False
        self._request_complete = False
        self._to_client: list[bytes] = []
        self._answer_started = False
        self._answer_complete = False
        self._client_is_blocked = False
        self._reads_answer = True

    # From the client

    def start(self) -> None:
        """Begin; everything the client sent before this one has its answer."""
        self._started = True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SILENCE_SECONDS, self._check_progress, -1)
        disturbance = self._admission.disturbance(self._request)
        if disturbance is None:
            self._begin()
        else:
            self._task = loop.create_task(self._begin_disturbed(disturbance))

    def body_received(self, data: bytes) -> None:
        """A piece of the request's body, without framing."""
        self._progress += 1
        if self._discards:
            return
        self._to_store.append(b"%x\r\n%b\r\n" % (len(data), data) if self._chunks_in else data)
        self._waiting_bytes += len(data)
        if self._store is None and self._held is None and self._waiting_bytes > _AHEAD:
            self._client.read_on(False)

    def body_complete(self) -> None:
        """The client has sent its request to the end."""
        self._request_complete = True
        if self._chunks_in and not self._discards:
            self._to_store.append(b"0\r\n\r\n")

    def flush(self) -> None:
        """What the client's connection had to give has been handed over."""
        if self.response_complete:  # a refusal that did not wait for the body
            return
        if self._held is not None and self._request_complete:
            self._send_checked(self._held)
        # The head goes with the body's first piece: most clients send it apart.
        comes = self._waiting_bytes or self._request_complete
        if self._to_store and self._store is not None and comes:
            data = b"".join(self._to_store) if len(self._to_store) > 1 else self._to_store[0]
            self._to_store.clear()
            self._waiting_bytes = 0
            self._remember(data)
            self._store.transport.write(data)
        if self._request_complete and self._started:
            self._answer()

    def client_lost(self) -> None:
        """Nobody waits for the answer any more."""
        self._end()

    def client_blocked(self, blocked: bool) -> None:
        """Does the client take no more of the answer for the moment?"""
        self._progress += 1
        self._client_is_blocked = blocked
        self._read_answer(not blocked)

    # From the store

    def answer_started(self, status: int, reason: bytes, headers: Headers, sized: bool) -> None:
        self._answer_started = True
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
        lines += [
            b"%b: %b\r\n" % header
            for header in headers
            if header[0] not in _NOT_FROM_STORE
            and (not header[0].startswith(_INTERNAL) or header[0] == _TAG_COUNT)
        ]
        for added in self._admission.added_headers(self._request, status):
            if all(name != added[0] for name, _ in headers):
                lines.append(b"%b: %b\r\n" % added)
        if not sized and self._http_10:
            self.keep_alive = False
        elif not sized:
            self._chunks_out = True
            lines.append(b"transfer-encoding: chunked\r\n")
        self._finish_head(lines)

    def answer_body(self, data: bytes) -> None:
        self._to_client.append(b"%x\r\n%b\r\n" % (len(data), data) if self._chunks_out else data)

    def answer_complete(self) -> None:
        self._answer_complete = True
        if self._chunks_out:
            self._to_client.append(b"0\r\n\r\n")

    def answer_pause(self) -> None:
        self._progress += 1
        if self._answer_complete:
            self._release(clean=self._request_complete and not self._to_store)
            if not self._request_complete:
                # The rest is read and dropped, also where the store had taken no more of it.
                self._client.read_on(True)
        self._answer()

    def store_blocked(self, blocked: bool) -> None:
        self._progress += 1
        self._client.read_on(not blocked)

    def store_lost(self) -> None:
        store, self._store = self._store, None
        if self._answer_started:
            log.warning("the object store broke off its answer to %s", self._request.path)
            self._break_off()
        elif store is not None and store.was_used and self._sent is not None:
            # It had closed an idle connection.
            self._to_store[:0] = self._sent
            self._sent, self._sent_bytes = None, 0
            self._connect()
        else:
            log.warning("the object store did not answer %s", self._request.path)
            self._task = asyncio.get_running_loop().create_task(self._refuse_for_store())

    # Steps

    async def _begin_disturbed(self, coming: Awaitable[Disturbance]) -> None:
        disturbance = await coming
        await asyncio.sleep(disturbance.seconds)
        if disturbance.slow_down:
            self._refuse(Refusal(503, "SlowDown", SLOW_DOWN))
        else:
            self._begin()
            if self._store is not None:  # reading may have stopped before there was one
                self._client.read_on(True)
        self.flush()

    async def _refuse_for_store(self) -> None:
        self._refuse(await self._admission.store_away())

    def _begin(self) -> None:
        try:
            request = self._admission.admit(self._request)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if self._expects_continue:
            self._client.write(_CONTINUE)
            self._expects_continue = False
        if self._admission.reads_body(request):
            self._held = request
            self._client.read_on(True)
        else:
            self._send(request)

    def _send_checked(self, request: SignedRequest) -> None:
        self._held = None
        try:
            self._admission.check_body(b"".join(self._to_store))
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._send(request)

    def _send(self, request: SignedRequest) -> None:
        self._to_store.insert(0, _head(request))
        self._store = self._pool.idle_connection()
        if self._store is not None:
            self._store.carry(self, self._request.method == "HEAD")
        else:
            self._connect()

    def _connect(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._begin_on_new_connection())

    async def _begin_on_new_connection(self) -> None:
        try:
            store = await self._pool.connect()
        except StoreUnavailable as error:
            log.warning("the object store cannot be reached: %s", error)
            await self._refuse_for_store()
            return
        if self.response_complete:  # the client left while the connection was made
            store.release(clean=False)
            return
        self._store = store
        self._reads_answer = True
        store.carry(self, self._request.method == "HEAD")
        self._client.read_on(True)
        self.flush()

    def _remember(self, data: bytes) -> None:
        if self._sent is None:
            return
        self._sent_bytes += len(data)
        if self._sent_bytes > _REPLAYED_BYTES:
            self._sent = None
        else:
            self._sent.append(data)

    def _answer(self) -> None:
        """Send what there is of the answer, once the client listens."""
        if not self._request_complete:
            # To its end, if it is short: a store that refuses takes no more of the request.
            self._read_answer(sum(map(len, self._to_client)) <= _AHEAD)
            return
        if self._to_client:
            out = self._to_client
            data = b"".join(out) if len(out) > 1 else out[0]
            out.clear()
            self._client.write(data)
            self._read_answer(not self._client_is_blocked)
        if self._answer_complete and not self.response_complete:
            self._end()
            self._client.exchange_complete(linger=False)

    def _read_answer(self, wanted: bool) -> None:
        if self._store is None or wanted is self._reads_answer:
            return
        self._reads_answer = wanted
        transport = self._store.transport
        transport.resume_reading() if wanted else transport.pause_reading()

    def _finish_head(self, lines: list[bytes]) -> None:
        lines += [self._client.date_header(), _SERVER]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self._http_10:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._to_client.append(b"".join(lines))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the store.

        A client that waits for `100 Continue` gets the answer instead of it. Whether it then
        sends the body or not is up to it, so that the connection cannot be used again.
        """
        self._discards = self._answer_started = self._answer_complete = True
        self._to_store.clear()
        self._release(clean=False)
        early = self._expects_continue
        if early:
            self.keep_alive = False
        request_id = uuid4().hex.upper()[:16]
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message>"
            f"<Resource>{escape(self._request.path)}</Resource>"
            f"<RequestId>{request_id}</RequestId></Error>"
        ).encode()
        self._finish_head(
            [
                b"HTTP/1.1 %d %b\r\n"
                % (refusal.status, HTTPStatus(refusal.status).phrase.encode()),
                b"content-type: application/xml\r\n",
                b"content-length: %d\r\n" % len(document),
                b"x-amz-request-id: %b\r\n" % request_id.encode(),
            ]
        )
        if self._request.method != "HEAD":
            self._to_client.append(document)
        if early:
            self._end()
            self._client.write(b"".join(self._to_client))
            self._client.exchange_complete(linger=True)
        else:
            self._client.read_on(True)
            self.flush()

    def _break_off(self) -> None:
        self._end()
        self._client.abort()

    def _release(self, clean: bool) -> None:
        self._discards = self._discards or self._answer_complete
        store, self._store = self._store, None
        if store is not None:
            store.release(clean)

    def _end(self) -> None:
        self.response_complete = self._discards = True
        self._release(clean=False)
        for pending in (self._timer, self._task):
            if pending is not None:
                pending.cancel()

    def _check_progress(self, seen: int) -> None:
        if seen == self._progress:
            log.warning("%s %s made no progress", self._request.method, self._request.path)
            if self._request_complete and not self._answer_started:
                # The store hangs. Nothing more of this connection to it is wanted.
                self._release(clean=False)
                self._task = asyncio.get_running_loop().create_task(self._refuse_for_store())
            else:
                self._break_off()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SILENCE_SECONDS, self._check_progress, self._progress)


def _head(request: SignedRequest) -> bytes:
    """The request as it goes to the store, framed as its body will be."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    lines = [f"{request.method} {target} HTTP/1.1\r\n".encode("latin-1")]
    lines += [b"%b: %b\r\n" % header for header in request.headers if header[0] not in _HOP_BY_HOP]
    if request.header(b"transfer-encoding"):
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
