"""Containers that keep the hosting contract, in threads; a header says how to behave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BEHAVIOUR = "X-Amzn-SageMaker-Custom-Attributes"


class ModelServer(ThreadingHTTPServer):
    """Answers /invocations; `seen` has the requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, name: str = "", port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.name = name
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.models: dict[str, str] = {}
        self.room = 2
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.fails = self.hangs = False
        """Whether it does so where no header says what to do."""
        self.release = threading.Event()
        """Lets requests go on that are told to wait."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def dial(self, _: int = 0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 0.25)

    def cut(self) -> None:
        """End all connections, as a process that dies does."""
        with self.lock:
            for each in self.connections:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def die(self) -> None:
        """Accept no connection any more, and end those that there are."""
        self.shutdown()
        self.server_close()
        self.cut()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer
    wbufsize = 65536

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.server.lock:
            self.server.connections.add(self.request)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        with self.server.lock:
            self.server.connections.discard(self.request)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.answer(200)

    def do_DELETE(self) -> None:
        known = self.server.models.pop(self.path.rpartition("/")[2], None)
        self.answer(200 if known else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.body = body
        self.server.seen.append((self.path, headers, body))
        if self.path == "/models":
            self.load(json.loads(body))
            return
        if self.path.startswith("/models/"):
            url = self.server.models.get(self.path.split("/")[2])
            self.answer(200 if url else 404, (url or "").encode() + b":" + body)
            return
        behaviour = headers.get(BEHAVIOUR.lower(), "")
        getattr(self, f"do_{behaviour}", self.echo)()

    def load(self, asked: dict[str, str]) -> None:
        if asked["model_name"] in self.server.models:
            self.answer(409)
        elif len(self.server.models) >= self.server.room:
            self.answer(507)
        else:
            self.server.models[asked["model_name"]] = asked["url"]
            self.answer(200)

    def echo(self) -> None:
        if self.server.fails:
            self.do_fail()
            return
        if self.server.hangs:
            self.server.release.wait(30)
        name = self.server.name.encode()
        self.answer(200, name + b":" + self.body if name else self.body)

    def do_fail(self) -> None:
        self.answer(500, b"Traceback: " + self.body)

    def do_refuse(self) -> None:
        self.answer(415, b"no such type")

    def do_hang(self) -> None:
        self.server.release.wait(30)
        self.answer(200, b"late")

    def do_cut(self) -> None:
        self.close_connection = True
        self.request.shutdown(socket.SHUT_RDWR)

    def do_break(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")
        self.wfile.flush()
        self.do_cut()

    def do_huge(self) -> None:
        self.answer(200, bytes(30 * 1024 * 1024))

    def do_parts(self) -> None:
        self.begin_chunks()
        for number in range(3):
            self.chunk(f"part {number}".encode())
            if number == 0:
                self.server.release.wait(30)
        self.wfile.write(b"0\r\n\r\n")

    def do_stopped(self) -> None:
        self.begin_chunks()
        self.chunk(b"begin")
        time.sleep(0.05)
        self.do_cut()

    def do_stuck(self) -> None:
        self.begin_chunks()
        self.chunk(b"begin")
        self.server.release.wait(30)
        self.do_cut()

    def do_session(self) -> None:
        self.answer(
            200, self.body, {"X-Amzn-SageMaker-New-Session-Id": f"s-{self.server.name}; Expires=x"}
        )

    def begin_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = self.headers.get("Accept") or "application/json"
        given = {"Content-Type": kind, **(headers or {})}
        if told := self.headers.get(BEHAVIOUR):
            given[BEHAVIOUR] = told
        for name, value in given.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running(name: str = "", port: int = 0) -> Iterator[ModelServer]:
    """A server in a thread."""
    server = ModelServer(name, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        server.cut()
