"""The endpoint's connections, byte by byte: what clients may send, and what the store gets."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from emulator.aws.endpoint import HEAD_LIMIT, EndpointProtocol, endpoint_protocol
from emulator.aws.s3 import exchange
from emulator.aws.s3.exchange import Exchange
from emulator.aws.s3.local_control import LocalControl
from emulator.aws.s3.proxy import S3Proxy
from emulator.model.faults import Fault, Kind
from emulator.workloads.fault_book import FaultBook

SIGNED = (
    "Authorization: AWS4-HMAC-SHA256 Credential=key/20260101/us-west-2/s3/aws4_request, "
    "SignedHeaders=host, Signature=0\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: x\r\n\r\nok"
TIMEOUT = 30
TOO_MUCH = 54_321
"""Bytes for which the store's disk has no room."""


class Store:
    """An object store that keeps what it is sent and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        """Heads and bodies, as they came."""
        self.connections = 0
        self.answer: bytes | Callable[[bytes], bytes] = OK
        self.answers_early = False
        self.closes = False
        self.before_answer, self.before_last_byte, self.before_end = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        """Cleared by tests to make the store wait there."""
        for event in (self.before_answer, self.before_last_byte, self.before_end):
            event.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"" if self.answers_early else await _body(head, reader)
        self.requests.append((head, body))
        answer = self.answer(head) if callable(self.answer) else self.answer
        await self.before_answer.wait()
        writer.write(answer[:-1])
        await self.before_last_byte.wait()
        writer.write(answer[-1:])
        await writer.drain()
        await self.before_end.wait()
        return not (self.closes or self.answers_early)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if found := re.search(rb"content-length: (\d+)", head):
        return await reader.readexactly(int(found[1]))
    if b"transfer-encoding: chunked" in head:
        return await reader.readuntil(b"0\r\n\r\n")
    return b""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Everything but S3: says what it read."""
    size = 0
    more = scope["path"] != "/_emulator/unread"
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    text = b"app %d" % size
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Line:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader = reader
        self.writer = writer

    def send(self, *parts: str | bytes) -> None:
        self.writer.write(b"".join(p.encode() if isinstance(p, str) else p for p in parts))

    async def answer(self) -> tuple[int, str, bytes]:
        """Status, head and body of the next answer."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        status = int(head.split()[1])
        if status == 100:
            return status, head.decode(), b""
        body = await asyncio.wait_for(_answer_body(head.lower(), self.reader), TIMEOUT)
        return status, head.decode(), body

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        return await asyncio.wait_for(self.reader.read(), TIMEOUT)


async def _answer_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"transfer-encoding: chunked" in head:
        return await reader.readuntil(b"0\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    return await reader.readexactly(int(found[1]) if found else 0)


class Processes:
    """Whether S3 and everything else are served by two protocols, as two processes do it."""

    two = False


@pytest.fixture(autouse=True, params=[False, True], ids=["one process", "two processes"])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "two", request.param)


class World:
    def __init__(self, store: Store, faults: FaultBook, connect: Callable[[], Awaitable[Line]]):
        self.ends: list[EndpointProtocol] = []
        """The server's ends of the clients' connections, in the order in which they came."""
        self.handed_over = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.store = store
        self.faults = faults
        self.connect = connect


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    store, faults = Store(), FaultBook()
    behind = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    proxy = S3Proxy(
        f"http://127.0.0.1:{port(behind)}",
        "key",
        "secret",
        LocalControl(faults),
        key_problem=lambda key, _size: "odd" if "//" in key else "",
        no_space=lambda size: "the disk is full" if size == TOO_MUCH else "",
    )
    config = uvicorn.Config(app, http=endpoint_protocol(proxy), lifespan="off", log_config=None)
    config.load()
    state = ServerState()

    def side(serves_s3: bool, received: bytes = b"") -> EndpointProtocol:
        end = EndpointProtocol(
            proxy if serves_s3 else None,
            partial(hand_over, not serves_s3) if Processes.two else None,
            received,
            config=config,
            server_state=state,
            app_state={},
        )
        made.ends.append(end)
        return end

    def hand_over(to_s3: bool, connection: int, received: bytes) -> None:
        made.handed_over += 1
        taking = loop.connect_accepted_socket(
            partial(side, to_s3, received), socket.socket(fileno=connection)
        )
        made.tasks.append(loop.create_task(taking))

    loop = asyncio.get_running_loop()

    def accept() -> EndpointProtocol:
        return side(serves_s3=True) if Processes.two else bound()

    def bound() -> EndpointProtocol:
        end = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=state, app_state={}
        )
        assert isinstance(end, EndpointProtocol)
        made.ends.append(end)
        return end

    front = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    lines: list[Line] = []

    async def connect() -> Line:
        lines.append(Line(*await asyncio.open_connection("127.0.0.1", port(front))))
        return lines[-1]

    made = World(store, faults, connect)
    try:
        yield made
    finally:
        for line in lines:
            line.writer.close()
        proxy.close()
        front.close()
        behind.close()


async def until(true: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not true():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(poll(), TIMEOUT)


def port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def with_world(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    async def run() -> None:
        async with world() as made:
            await test(made)

    def test_it() -> None:
        asyncio.run(run())

    test_it.__name__ = test.__name__
    return test_it


def head(method: str = "GET", path: str = "/b/k", more: str = "") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{SIGNED}{more}\r\n"


def put(body: bytes, more: str = "") -> bytes:
    return head("PUT", more=f"Content-Length: {len(body)}\r\n{more}").encode() + body


# --- through and back ------------------------------------------------------------------------


@with_world
async def test_a_request_goes_through_as_it_came(at: World) -> None:
    line = await at.connect()
    line.send(put(b"hello", "X-Amz-Meta-A: b  c\r\nConnection: keep-alive\r\n"))
    status, answer, body = await line.answer()
    assert (status, body) == (200, b"ok")
    assert "etag: x" in answer
    sent, content = at.store.requests[0]
    assert content == b"hello"
    assert sent.startswith(b"PUT /b/k HTTP/1.1\r\nhost: x\r\n")
    assert b"x-amz-meta-a: b  c\r\n" in sent
    assert b"connection" not in sent


@with_world
async def test_connections_to_the_store_are_used_again(at: World) -> None:
    line = await at.connect()
    for _ in range(5):
        line.send(head())
        assert (await line.answer())[0] == 200
    assert at.store.connections == 1
    other = await at.connect()
    other.send(head())
    await other.answer()
    assert at.store.connections == 1


@with_world
async def test_a_request_that_comes_byte_by_byte(at: World) -> None:
    line = await at.connect()
    for byte in put(b"hello"):
        line.send(bytes([byte]))
        await line.writer.drain()
        await asyncio.sleep(0)
    assert (await line.answer())[0] == 200
    assert at.store.requests[0][1] == b"hello"


@with_world
async def test_chunks_of_a_body(at: World) -> None:
    line = await at.connect()
    line.send(head("PUT", more="Transfer-Encoding: chunked\r\n"))
    line.send("3\r\nabc\r\n", "4;ext=1\r\ndefg\r\n", "0\r\nTrailer: x\r\n\r\n")
    assert (await line.answer())[0] == 200
    sent, body = at.store.requests[0]
    assert b"content-length" not in sent
    assert body == b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"


@with_world
async def test_a_body_that_is_compressed_on_the_way_is_refused(at: World) -> None:
    line = await at.connect()
    line.send(head("PUT", more="Transfer-Encoding: gzip, chunked\r\n"), "1\r\na\r\n0\r\n\r\n")
    status, _, body = await line.answer()
    assert status == 501
    assert b"<Code>NotImplemented</Code>" in body
    assert not at.store.requests
    line.send(head())
    assert (await line.answer())[0] == 200


@with_world
async def test_an_answer_in_chunks_and_one_that_ends_with_the_connection(at: World) -> None:
    line = await at.connect()
    at.store.answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    line.send(head())
    assert (await line.answer())[2] == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    at.store.answer, at.store.closes = b"HTTP/1.1 200 OK\r\n\r\nto the end", True
    line.send(head())
    assert (await line.answer())[2] == b"a\r\nto the end\r\n0\r\n\r\n"


@with_world
async def test_the_answer_to_head_has_no_body(at: World) -> None:
    line = await at.connect()
    at.store.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    for _ in range(2):
        line.send(head("HEAD"))
        answer = await line.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 1234" in answer
    assert at.store.connections == 1


@with_world
async def test_headers_of_the_stores_own_stay_inside(at: World) -> None:
    line = await at.connect()
    at.store.answer = (
        b"HTTP/1.1 204 No Content\r\nSeaweed-X: 1\r\nX-SeaweedFS-Y: 2\r\nServer: weed\r\n"
        b"Date: never\r\nX-Amz-Kept: 3\r\nX-Amz-Tagging-Team: a\r\nX-Amz-Tagging-Count: 1\r\n\r\n"
    )
    line.send(head())
    answer = (await line.answer())[1].lower()
    assert "seaweed" not in answer
    assert "never" not in answer
    assert "x-amz-kept: 3" in answer
    assert "x-amz-tagging-count: 1" in answer
    assert "x-amz-tagging-team" not in answer
    assert "server: amazons3" in answer


@pytest.mark.parametrize(("path", "named"), [("/b", True), ("/b/", True), ("/b/k", False)])
def test_the_head_of_a_bucket_names_its_region(path: str, named: bool) -> None:
    @with_world
    async def test(at: World) -> None:
        at.store.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        line = await at.connect()
        line.send(head("HEAD", path))
        assert ("x-amz-bucket-region: us-west-2" in (await line.answer())[1]) is named

    test()


@with_world
async def test_a_region_that_the_store_names_itself_stays(at: World) -> None:
    at.store.answer = b"HTTP/1.1 200 OK\r\nX-Amz-Bucket-Region: eu-1\r\nContent-Length: 0\r\n\r\n"
    line = await at.connect()
    line.send(head("HEAD", "/b"))
    answer = (await line.answer())[1]
    assert answer.count("x-amz-bucket-region") == 1
    assert "x-amz-bucket-region: eu-1" in answer


@with_world
async def test_what_is_not_s3s_goes_to_the_application(at: World) -> None:
    line = await at.connect()
    line.send("POST /_emulator/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    assert (await line.answer())[2] == b"app 3"
    line.send(head())
    assert (await line.answer())[2] == b"ok"
    line.send("GET /_emulator/x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await line.answer())[2] == b"app 0"
    assert len(at.store.requests) == 1


# --- pipelining ------------------------------------------------------------------------------


@with_world
async def test_pipelined_requests_are_answered_in_their_order(at: World) -> None:
    if Processes.two:
        return  # see test_requests_sent_ahead_of_answers
    at.store.answer = lambda sent: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%b" % sent[5:9]
    line = await at.connect()
    page = "POST /_emulator/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    line.send(head(path="/b/00"), page, head(path="/b/02"), head(path="/b/03"), page)
    answers = [(await line.answer())[2] for _ in range(5)]
    assert answers == [b"b/00", b"app 3", b"b/02", b"b/03", b"app 3"]


@with_world
async def test_a_pipelined_upload_keeps_its_body(at: World) -> None:
    line = await at.connect()
    line.send(put(b"a" * 1000), put(b"b" * 2000), head())
    for _ in range(3):
        assert (await line.answer())[0] == 200
    assert [len(body) for _, body in at.store.requests] == [1000, 2000, 0]


@with_world
async def test_pipelined_requests_on_a_kept_connection_to_the_store(at: World) -> None:
    if Processes.two:
        return  # see test_requests_sent_ahead_of_answers
    line = await at.connect()
    line.send(head())
    await line.answer()
    page = "GET /_emulator/x HTTP/1.1\r\nHost: x\r\n\r\n"
    line.send(head(path="/b/1"), head(path="/b/2"), page)
    assert [(await line.answer())[2] for _ in range(3)] == [b"ok", b"ok", b"app 0"]
    assert at.store.connections == 1


@with_world
async def test_a_long_line_of_requests_that_are_answered_at_once(at: World) -> None:
    many = 400  # as calls of each other, more than Python nests
    at.faults.add(Fault(Kind.SLOW_DOWN, times=many))
    line = await at.connect()
    line.send(head() * many)
    assert {(await line.answer())[0] for _ in range(many)} == {503}
    line.send(head())
    assert (await line.answer())[0] == 200


@pytest.mark.parametrize(
    "nonsense", ["nonsense\r\n\r\n", "GET /b/k HTTP/1.1\r\nX: " + "a" * (8 * HEAD_LIMIT)]
)
def test_what_is_no_request_does_not_get_into_the_answer_before_it(nonsense: str) -> None:
    @with_world
    async def test(at: World) -> None:
        at.store.before_last_byte.clear()
        line = await at.connect()
        line.send(head())
        answer = await line.reader.readuntil(b"\r\n\r\no")
        line.send(nonsense)
        end = at.ends[0]
        await until(lambda: end._ends or end.transport.is_closing())
        at.store.before_last_byte.set()
        assert answer.startswith(b"HTTP/1.1 200")
        assert await line.rest() == b"k"

    test()


@with_world
async def test_content_that_the_disk_has_no_room_for(at: World) -> None:
    line = await at.connect()
    line.send(put(b"x" * TOO_MUCH), head())
    status, _, body = await line.answer()
    assert status == 503
    assert b"<Message>the disk is full</Message>" in body
    assert (await line.answer())[0] == 200
    line.send(put(b"x" * TOO_MUCH).replace(b"/b/k", b"/b?versioning"))  # no content of an object
    assert (await line.answer())[0] == 200


# --- bodies that are checked first -----------------------------------------------------------


def deletion(*keys: str, more: str = "") -> list[str]:
    """The head and the body of DeleteObjects."""
    objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    body = f"<Delete>{objects}</Delete>"
    return [head("POST", "/b?delete", f"Content-Length: {len(body)}\r\n{more}"), body]


@with_world
async def test_the_store_gets_the_keys_to_delete_once_all_are_there(at: World) -> None:
    keys = [f"{number:0500}" for number in range(1000)]
    for more in ("", "Expect: 100-continue\r\n"):
        line = await at.connect()
        asked, body = deletion(*keys, more=more)
        line.send(asked)
        if more:
            assert (await line.answer())[0] == 100
        line.send(body[:200_000])
        await line.writer.drain()
        line.send(body[200_000:])
        assert (await line.answer())[0] == 200
        assert at.store.requests.pop()[1] == body.encode()


@with_world
async def test_one_odd_key_among_those_to_delete_refuses_all(at: World) -> None:
    line = await at.connect()
    for more in ("", "Expect: 100-continue\r\n"):
        line.send(*deletion("a", "b//c", more=more), head())
        status, _, body = await line.answer()
        if more:
            assert status == 100
            status, _, body = await line.answer()
        assert status == 400
        assert b"<Code>InvalidArgument</Code><Message>odd</Message>" in body
        assert (await line.answer())[0] == 200
    assert [sent[:4] for sent, _ in at.store.requests] == [b"GET ", b"GET "]


@with_world
async def test_keys_to_delete_sent_ahead_of_an_answer(at: World) -> None:
    line = await at.connect()
    keys = [f"{number:0500}" for number in range(1000)]
    line.send(head(), *deletion(*keys), *deletion("b//c"), head())
    assert [(await line.answer())[0] for _ in range(4)] == [200, 200, 400, 200]


# --- 100 Continue ----------------------------------------------------------------------------

EXPECT = "Expect: 100-continue\r\n"


@pytest.mark.parametrize("body", [b"", b"hello"])
def test_a_client_that_asks_is_told_to_continue(body: bytes) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        for _ in range(2):
            line.send(put(body, EXPECT)[: -len(body) or None])
            assert (await line.answer())[0] == 100
            line.send(body)
            assert (await line.answer())[0] == 200
        assert [content for _, content in at.store.requests] == [body, body]
        assert b"expect" not in at.store.requests[0][0]

    test()


@with_world
async def test_a_refusal_instead_of_continue_ends_the_connection(at: World) -> None:
    at.faults.add(Fault(Kind.SLOW_DOWN, times=1))
    line = await at.connect()
    line.send(head("PUT", more=f"Content-Length: 5\r\n{EXPECT}"))
    status, answer, body = await line.answer()
    assert status == 503
    assert b"<Code>SlowDown</Code>" in body
    assert "connection: close" in answer
    line.send("hello")  # a client that did not wait must not be reset
    assert await line.rest() == b""
    assert at.store.requests == []


@with_world
async def test_a_refused_upload_leaves_the_connection_in_step(at: World) -> None:
    line = await at.connect()
    for _ in range(3):
        at.faults.add(Fault(Kind.SLOW_DOWN, times=1))
        line.send(put(b"x" * 300_000))
        status, answer, _ = await line.answer()
        assert status == 503
        assert "connection: close" not in answer
        line.send(put(b"x" * 300_000))
        assert (await line.answer())[0] == 200


@with_world
async def test_an_unread_body_of_another_service_leaves_the_connection_in_step(at: World) -> None:
    line = await at.connect()
    for more in ("", EXPECT):
        line.send(
            f"POST /_emulator/unread HTTP/1.1\r\nHost: x\r\n{more}Content-Length: 200000\r\n\r\n"
        )
        if more:
            assert (await line.answer())[0] == 100
        line.send(b"x" * 200_000)
        assert (await line.answer())[2] == b"app 0"
    line.send(put(b"hello"))
    assert (await line.answer())[0] == 200


@with_world
async def test_a_store_that_refuses_before_it_has_read_all(at: World) -> None:
    at.store.answers_early = True
    at.store.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    line = await at.connect()
    line.send(put(b"x" * 3_000_000))
    assert (await line.answer())[0] in (403, 503)  # its reset may overtake its answer
    at.store.answers_early, at.store.answer = False, OK
    line.send(put(b"hello"))
    assert (await line.answer())[0] == 200


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_store_that_refuses_and_takes_no_more(in_pieces: bool) -> None:
    @with_world
    async def test(at: World) -> None:
        store = at.store
        store.answers_early = True
        store.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
        store.before_answer.clear()
        store.before_end.clear()
        if in_pieces:
            store.before_last_byte.clear()
        line = await at.connect()
        line.send(put(bytes(64 << 20)))
        end = at.ends[0]
        await until(lambda: bool(store.requests) and end.flow.read_paused)
        store.before_answer.set()
        if in_pieces:
            await until(lambda: isinstance(end.cycle, Exchange) and end.cycle._answer_started)
            store.before_last_byte.set()
        try:
            assert (await line.answer())[0] == 403
        finally:
            store.before_end.set()

    test()


# --- the store goes --------------------------------------------------------------------------


@with_world
async def test_a_connection_that_the_store_closed_meanwhile_is_replaced(at: World) -> None:
    line = await at.connect()
    at.store.answer = lambda _: OK if at.store.connections > 1 else b""
    line.send(head())
    await asyncio.sleep(0)
    at.store.closes = True
    status, _, _ = await line.answer()
    assert status == 503  # a fresh connection that breaks is no idle one
    at.store.answer, at.store.closes = OK, False
    line.send(head())
    assert (await line.answer())[0] == 200
    at.store.answer = lambda _: OK if at.store.connections > 2 else b""
    at.store.closes = True  # the next request on the kept connection finds it closing
    line.send(put(b"hello"))
    assert (await line.answer())[0] == 200
    assert at.store.requests[-1][1] == b"hello"


@with_world
async def test_an_answer_that_is_cut_short_ends_the_connection(at: World) -> None:
    at.store.answer, at.store.closes = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", True
    line = await at.connect()
    line.send(head())
    received = b""
    try:
        while data := await asyncio.wait_for(line.reader.read(1000), TIMEOUT):
            received += data
    except ConnectionResetError:
        pass
    assert len(received.partition(b"\r\n\r\n")[2]) < 100


@with_world
async def test_an_answer_that_is_no_http(at: World) -> None:
    at.store.answer = b"SSH-2.0-OpenSSH\r\n\r\n"
    line = await at.connect()
    line.send(head())
    assert (await line.answer())[0] == 503


@with_world
async def test_more_than_was_asked_for_does_not_reach_the_next_client(at: World) -> None:
    at.store.answer = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    line = await at.connect()
    line.send(head())
    assert (await line.answer())[2] == b"ok"
    at.store.answer = OK
    line.send(head())
    assert (await line.answer())[2] == b"ok"
    assert at.store.connections == 2


# --- clients that go -------------------------------------------------------------------------


@with_world
async def test_a_client_that_shuts_its_side_still_gets_its_answer(at: World) -> None:
    line = await at.connect()
    line.send(put(b"hello"))
    line.writer.write_eof()
    status, _, body = await line.answer()
    assert (status, body) == (200, b"ok")
    assert await line.rest() == b""


@with_world
async def test_a_client_that_leaves_in_the_middle_of_an_upload(at: World) -> None:
    line = await at.connect()
    line.send(head("PUT", more="Content-Length: 1000\r\n"), "only a little")
    await line.writer.drain()
    line.writer.close()
    other = await at.connect()
    other.send(head())
    assert (await other.answer())[0] == 200
    assert len(at.store.requests) == 1


@with_world
async def test_a_client_that_does_not_read_holds_the_store_back(at: World) -> None:
    size = 64 << 20
    at.store.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    line = await at.connect()
    line.send(head())
    await line.reader.readuntil(b"\r\n\r\n")
    assert len(await line.reader.readexactly(size)) == size


@with_world
async def test_a_client_that_reads_no_more_holds_its_next_answer_back(at: World) -> None:
    size = 32 << 20
    line = await at.connect()
    line.send(head())
    await line.answer()
    at.store.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    end = at.ends[0]
    # uvloop says it once, be it during the first answer, and not again for the next.
    end.transport.set_write_buffer_limits(high=2 * size)
    end.pause_writing()
    line.send(head())
    await line.reader.readuntil(b"\r\n\r\n")
    other = await at.connect()
    other.send(head())
    assert len((await other.answer())[2]) == size
    assert end.transport.get_write_buffer_size() < size // 8
    end.resume_writing()
    assert len(await line.reader.readexactly(size)) == size


# --- hostile ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 0x5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Content-Length : 5\r\n",
        "X: a\rb\r\n",
        "X: a\nContent-Length: 5\r\n",
        "X: a\x00b\r\n",
        "X\x00Y: a\r\n",
        " folded: x\r\n",
        "no colon\r\n",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(lines: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        line.send(head("PUT", more=lines), "5\r\nhello\r\n0\r\n\r\n", head(path="/b/smuggled"))
        answer = await line.rest()
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1") == 1
        assert all(b"smuggled" not in sent + body for sent, body in at.store.requests)

    test()


@pytest.mark.parametrize(
    "chunks", ["z\r\nhello\r\n", "5\nhello\n", "-5\r\nhello\r\n", "5\r\nhelloXX"]
)
def test_chunks_that_are_none(chunks: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        line.send(head("PUT", more="Transfer-Encoding: chunked\r\n"), chunks, "0\r\n\r\n")
        assert (await line.rest()).startswith(b"HTTP/1.1 400")
        assert at.store.requests == []

    test()


@with_world
async def test_a_trailer_is_no_header(at: World) -> None:
    line = await at.connect()
    # The second one begins when its trailer has been read.
    line.send(head(), head("PUT", more="Transfer-Encoding: chunked\r\n"))
    line.send("3\r\nabc\r\n0\r\nX-Amz-Acl: public-read\r\nExpect: 100-continue\r\n\r\n")
    assert [(await line.answer())[0] for _ in range(2)] == [200, 200]
    sent, body = at.store.requests[1]
    assert body == b"3\r\nabc\r\n0\r\n\r\n"
    assert b"x-amz-acl" not in sent


@pytest.mark.parametrize("end_of_body", ["0\r\nX: ", "0\r\nX: a\r\n", "1;"])
def test_trailers_and_chunk_extensions_have_a_limit(end_of_body: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        line.send(head("PUT", more="Transfer-Encoding: chunked\r\n"), "3\r\nabc\r\n", end_of_body)
        more = "X: a\r\n" if end_of_body.endswith("\n") else "aaaaaaaa"
        for _ in range(64):
            line.send(more * (8192 // len(more)))
            await asyncio.sleep(0.001)
        assert (await line.answer())[0] == 431

    test()


@pytest.mark.parametrize("more", ["X: " + "a" * (2 * HEAD_LIMIT), "X: a\r\n" * HEAD_LIMIT])
def test_heads_have_a_limit(more: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        line.send("GET /b/k HTTP/1.1\r\nHost: x\r\n")
        for start in range(0, len(more), 8192):
            line.send(more[start : start + 8192])
            await asyncio.sleep(0.001)
        assert (await line.answer())[0] == 431
        assert at.store.requests == []

    test()


@pytest.mark.parametrize(
    "request_line",
    ["GET", "GET /", "G\x00T / HTTP/1.1", "GET / HTTP/9.9", "GET /a b HTTP/1.1", "* * *", "\r\r"],
)
def test_lines_that_are_no_request(request_line: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        line.send(f"{request_line}\r\nHost: x\r\n\r\n")
        assert (await line.rest()).startswith(b"HTTP/1.1 400")
        assert at.store.requests == []

    test()


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
        "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, Signature=é",
        "AWS4-HMAC-SHA256 Credential=key/s3/aws4_request, SignedHeaders=, Signature=",
        "AWS4-HMAC-SHA256 Credential=123456789012/a/b/s3/aws4_request",
        "AWS4-HMAC-SHA256 =,,,Credential=key/20260101/us-east-1/s3/aws4_request,=",
    ],
)
def test_signatures_that_are_none(authorization: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        for more in ("", "x-amz-security-token: t\r\n"):
            line.send(
                f"GET /b/k HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n{more}\r\n"
            )
            assert (await line.answer())[0] in (200, 400, 403), more

    test()


@pytest.mark.parametrize("length", ["\xb2", "1" * 5000, "-1", ""])
def test_a_length_of_a_payload_that_is_none(length: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        more = f"Content-Length: 0\r\nX-Amz-Decoded-Content-Length: {length}\r\n"
        line.send(head("PUT", more=more).encode("latin-1"))
        assert (await line.answer())[0] == 200

    test()


@with_world
async def test_http_1_0(at: World) -> None:
    at.store.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    line = await at.connect()
    line.send(f"GET /b/k HTTP/1.0\r\n{SIGNED}\r\n")
    answer = await line.rest()
    assert answer.endswith(b"\r\n\r\nab")
    assert b"connection: close" in answer


@with_world
async def test_an_upgrade_that_is_not_made(at: World) -> None:
    line = await at.connect()
    line.send(head(more="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"))
    status, answer, _ = await line.answer()
    assert status == 200
    assert "connection: close" in answer


@with_world
async def test_an_absolute_target(at: World) -> None:
    line = await at.connect()
    line.send(head(path="http://x/b/k?a=b"))
    assert (await line.answer())[0] == 200
    assert at.store.requests[0][0].startswith(b"GET /b/k?a=b HTTP/1.1")


# --- two processes ---------------------------------------------------------------------------

API = "POST /_emulator/x HTTP/1.1\r\nHost: x\r\n"


@with_world
async def test_a_connection_goes_to_whoever_serves_its_next_request(at: World) -> None:
    line = await at.connect()
    large = b"x" * 3_000_000
    for turn in range(3):
        line.send(f"{API}Content-Length: {len(large)}\r\n\r\n", large)
        assert (await line.answer())[2] == b"app 3000000"
        line.send(put(large))
        assert (await line.answer())[0] == 200
        assert at.store.requests[turn][1] == large
    assert at.handed_over == (6 if Processes.two else 0)


@with_world
async def test_a_request_for_the_other_process_that_comes_byte_by_byte(at: World) -> None:
    line = await at.connect()
    for byte in f"{API}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode():
        line.send(bytes([byte]))
        await line.writer.drain()
        await asyncio.sleep(0)
    assert (await line.answer())[2] == b"app 3"


@with_world
async def test_the_other_process_asks_for_the_body(at: World) -> None:
    line = await at.connect()
    line.send(f"{API}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert (await line.answer())[0] == 100
    line.send("abc")
    assert (await line.answer())[2] == b"app 3"
    line.send(head("PUT", more="Expect: 100-continue\r\nContent-Length: 3\r\n"))
    assert (await line.answer())[0] == 100
    line.send("abc")
    assert (await line.answer())[0] == 200


@with_world
async def test_what_is_no_request_is_told_so_by_the_other_process(at: World) -> None:
    line = await at.connect()
    line.send(f"{API}Content-Length: 0\r\n\r\n", "nonsense\r\n\r\n")
    assert (await line.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("first", ["s3", "api"])
def test_requests_sent_ahead_of_answers_get_one_or_a_closed_connection(first: str) -> None:
    @with_world
    async def test(at: World) -> None:
        line = await at.connect()
        api = f"{API}Content-Length: 0\r\n\r\n"
        line.send(*((head(), api) if first == "s3" else (api, head())))
        answers = [(await line.answer())[2]]
        if Processes.two:
            assert await line.rest() == b""
        else:
            answers.append((await line.answer())[2])
        assert (
            answers == ([b"ok", b"app 0"] if first == "s3" else [b"app 0", b"ok"])[: len(answers)]
        )

    test()


@with_world
async def test_a_client_that_has_sent_all_gets_its_answer_of_the_other_process(at: World) -> None:
    line = await at.connect()
    line.send(f"{API}Connection: close\r\nContent-Length: 0\r\n\r\n")
    assert (await line.rest()).endswith(b"app 0")


@with_world
async def test_a_store_that_never_answers_is_given_up_with_503(at: World) -> None:
    at.store.before_answer.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "_SILENCE_SECONDS", 0.05)
        line = await at.connect()
        line.send(put(b"hello"))
        status, _, body = await line.answer()
    assert status == 503
    assert b"<Code>ServiceUnavailable</Code>" in body
    at.store.before_answer.set()
    line.send(head())
    assert (await line.answer())[0] == 200


@with_world
async def test_a_body_that_was_not_waited_for_comes_with_the_next_request(at: World) -> None:
    line = await at.connect()
    line.send("POST /_emulator/unread HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    assert (await line.answer())[2] == b"app 0"
    line.send(b"cde", put(b"hello"))
    assert (await line.answer())[0] == 200
    assert at.store.requests[0][1] == b"hello"


@with_world
async def test_a_refusal_instead_of_100_is_written_once(at: World) -> None:
    at.faults.add(Fault(Kind.SLOW_DOWN, times=1))
    line = await at.connect()
    line.send(put(b"", "Expect: 100-continue\r\n"))
    assert (await line.rest()).count(b"HTTP/1.1 503") == 1
    refused = at.ends[0].cycle
    assert isinstance(refused, Exchange)
    assert refused._task is not None
    await until(refused._task.done)
    assert refused._task.cancelled() or refused._task.exception() is None
