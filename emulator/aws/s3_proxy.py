"""S3 on the emulator's port: every request goes through to the object store, byte for byte.

The store checks signatures itself, so nothing it could notice changes on the way: target,
host and headers stay as they came. Two things have to change, because the embedded store
refuses them (measured with SeaweedFS 4.48): encryption with KMS, which it does not have and
SDK v2 asks for in every upload, and session tokens, which AssumeRole hands out. Such a
request is checked here, with the same credentials, and signed anew without them. A request
of another account (see accounts.py) is signed anew with the store's credentials.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

import httpcore
from starlette.types import Message, Receive, Scope, Send

from emulator.aws.accounts import is_account
from emulator.aws.signatures import Headers, SignedRequest, signer_of
from emulator.jobs.disturbed import SLOW_DOWN
from emulator.jobs.faults import FaultBook
from emulator.model.faults import Chance, Kind

log = logging.getLogger(__name__)

_HOP_BY_HOP = frozenset(
    b"connection expect keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)
# The server in front writes its own.
_NOT_FROM_STORE = _HOP_BY_HOP | {b"date", b"server"}

_ENCRYPTION = b"x-amz-server-side-encryption"
_KMS = (
    _ENCRYPTION,
    b"x-amz-server-side-encryption-aws-kms-key-id",
    b"x-amz-server-side-encryption-context",
    b"x-amz-server-side-encryption-bucket-key-enabled",
)
_TOKEN = b"x-amz-security-token"
_TIMEOUTS = {"connect": 5.0, "read": 600.0, "write": 600.0, "pool": 600.0}
"""Seconds without any progress; completing a large multipart upload takes the store a while."""


class _ClientGone(Exception):
    """The client closed its connection in the middle of its request."""


class _Refusal(Exception):
    """An answer in S3's own form, given without asking the store."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status = status
        self.code = code


class S3Proxy:
    """An ASGI application in front of one object store."""

    def __init__(
        self, endpoint: str, access_key: str, secret_key: str, faults: FaultBook | None = None
    ):
        """`endpoint` is the store's base URL; the credentials are those of the store.

        `faults` are those that a user seeds.
        """
        self._faults = faults or FaultBook()
        parts = urlsplit(endpoint)
        self._scheme = (parts.scheme or "http").encode()
        self._host = (parts.hostname or "127.0.0.1").encode()
        self._port = parts.port
        self._access_key = access_key
        self._secret_key = secret_key
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context() if parts.scheme == "https" else None,
            max_connections=None,
            max_keepalive_connections=32,
            keepalive_expiry=30,
        )

    async def aclose(self) -> None:
        """Close the connections to the store."""
        await self._pool.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through and its answer back, both as streams."""
        body = _RequestBody(receive)
        try:
            await self._disturb(scope)
            response = await self._ask_store(scope, body)
        except _ClientGone:
            return
        except _Refusal as refusal:
            await body.drain(unless_client_waits=scope)
            await _send_refusal(refusal, scope, send)
            return
        try:
            # A store that refuses an upload may answer before it has read all of it.
            await body.drain(unless_client_waits=scope)
            await _until_client_leaves(_relay(response, scope, send), receive)
        except _ClientGone:
            log.debug("client left during %s %s", scope["method"], scope["path"])
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            # The status is out already: an answer cut short is all that can tell the client.
            log.warning("the object store broke off %s: %r", scope["path"], error)
        finally:
            await response.aclose()

    async def _disturb(self, scope: Scope) -> None:
        """Meet the seeded faults; raises _Refusal."""
        bucket = scope["path"].lstrip("/").partition("/")[0]
        if slow := self._faults.strike(Chance(Kind.SLOW_S3, bucket=bucket)):
            await asyncio.sleep(slow.seconds)
        if self._faults.strike(Chance(Kind.SLOW_DOWN, bucket=bucket)):
            raise _Refusal(503, "SlowDown", SLOW_DOWN)

    async def _ask_store(self, scope: Scope, body: _RequestBody) -> httpcore.Response:
        request = SignedRequest(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            [(name.lower(), value) for name, value in scope["headers"]],
        )
        request = self._acceptable(request)
        target = f"{request.path}?{request.query}" if request.query else request.path
        try:
            return await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=self._scheme,
                        host=self._host,
                        port=self._port,
                        target=target.encode("latin-1"),
                    ),
                    headers=_forwarded(request.headers),
                    content=body if _has_body(request) else None,
                    extensions={"timeout": _TIMEOUTS},
                )
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            log.warning("the object store does not answer: %r", error)
            raise _Refusal(
                503,
                "ServiceUnavailable",
                "The object store behind sagemaker-emulator is unreachable.",
            ) from error

    def _acceptable(self, request: SignedRequest) -> SignedRequest:
        """The request as the store can take it; raises _Refusal for a wrong signature."""
        dropped: list[bytes] = []
        if request.header(_ENCRYPTION).startswith("aws:kms"):
            dropped += _KMS
        if request.header(_TOKEN) or "X-Amz-Security-Token=" in request.query:
            dropped.append(_TOKEN)
        headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in request.headers}
        signer = signer_of(headers, request.query)
        if signer is None:
            return request
        # The store knows one account only; buckets have one name for all accounts anyway.
        foreign = signer.access_key != self._access_key and is_account(signer.access_key)
        if not dropped and not foreign:
            return request
        if not foreign and signer.access_key != self._access_key:
            raise _Refusal(
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            )
        if not foreign and not request.is_signed_by(self._access_key, self._secret_key):
            raise _Refusal(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
            )
        if request.header(b"x-amz-content-sha256").startswith("STREAMING-AWS4"):
            # Each chunk is signed with the signature of the one before it and so, in the end,
            # with the one of the headers.
            raise _Refusal(
                501,
                "NotImplemented",
                "Signed chunks together with aws:kms, a session token or the credentials of "
                "another account are not built into sagemaker-emulator yet; send the payload "
                "unsigned or in one piece.",
            )
        if foreign:
            request = request.in_the_name_of(self._access_key)
        return request.without(dropped, self._secret_key)


class _RequestBody:
    """The client's body, read as the store takes it."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self._started = False
        self._finished = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._finished:
            self._started = True
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            self._finished = not message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def drain(self, unless_client_waits: Scope) -> None:
        """Read what is left: a client that is still sending would not see the answer.

        One that waits for `100 Continue` has sent nothing and need not.
        """
        waits = any(name.lower() == b"expect" for name, _ in unless_client_waits["headers"])
        if waits and not self._started:
            return
        with suppress(_ClientGone):
            async for _ in self:
                pass


def _has_body(request: SignedRequest) -> bool:
    length = request.header(b"content-length")
    return int(length) > 0 if length.isdigit() else bool(request.header(b"transfer-encoding"))


def _forwarded(headers: Headers) -> Headers:
    kept = [(name, value) for name, value in headers if name not in _HOP_BY_HOP]
    if any(name == b"transfer-encoding" for name, _ in headers):
        # The front server has undone the client's chunks; these are ours.
        kept.append((b"transfer-encoding", b"chunked"))
    return kept


async def _relay(response: httpcore.Response, scope: Scope, send: Send) -> None:
    headers = [(n.lower(), v) for n, v in response.headers if n.lower() not in _NOT_FROM_STORE]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if scope["method"] != "HEAD":
        async for chunk in response.aiter_stream():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_client_leaves(relay: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run to the end; raises _ClientGone when nobody wants the answer any more."""
    work = asyncio.create_task(relay)
    watch = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise _ClientGone
        await work
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    message: Message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()


async def _send_refusal(refusal: _Refusal, scope: Scope, send: Send) -> None:
    request_id = uuid4().hex.upper()[:16]
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message>"
        f"<Resource>{escape(scope['raw_path'].decode('latin-1'))}</Resource>"
        f"<RequestId>{request_id}</RequestId></Error>"
    ).encode()
    headers = [
        (b"content-type", b"application/xml"),
        (b"content-length", str(len(document)).encode()),
        (b"x-amz-request-id", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else document
    await send({"type": "http.response.body", "body": body, "more_body": False})
