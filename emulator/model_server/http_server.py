"""HTTP as SageMaker's containers speak it: `/ping`, `/invocations`, and `/models`.

One thread a connection. It waits for a worker of the model, and never runs the user's code, so
that `/ping` is answered at once whatever the model does.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .catalog import SINGLE, AlreadyLoadedError, Catalog
from .models import CannotLoadError, Message, ModelClosedError, WorkerEndedError, log

BACKLOG = 1024
SMALL = 64 * 1024
"""Bytes; a body up to this size is sent together with its headers."""
DISCARD_SECONDS = 5.0
"""How long the rest of a refused body is waited for."""
_INSUFFICIENT_STORAGE = 507
_JSON = {"Content-Type": "application/json"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}


class _BadRequest(Exception):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


class Connection(BaseHTTPRequestHandler):
    """One client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server  # type: ignore[assignment]

    busy = False
    """Whether a request is being read or answered; the server's lock guards it."""

    def setup(self) -> None:
        super().setup()
        self.server.joined(self)

    def finish(self) -> None:
        self.server.left(self)
        with suppress(OSError):  # the client has gone
            super().finish()

    def handle_one_request(self) -> None:
        """As the base class, but an idle connection is known as such."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True  # the client has gone
        finally:
            self.server.now_idle(self)

    def parse_request(self) -> bool:
        self.server.now_busy(self)  # the first line is here
        return super().parse_request()

    def log_message(self, *_: Any) -> None:
        """No line for each request; the platform's log holds what the model prints."""

    def do_GET(self) -> None:
        path, catalog = self._path(), self.server.catalog
        if path == "/ping":
            self._answer(200 if catalog.healthy else 503)
        elif path == "/models" and self.server.multi_model:
            listed = [_described(model.name, model.directory) for model in catalog.loaded()]
            self._answer(200, json.dumps({"models": listed}).encode(), _JSON)
        elif name := self._model_name():
            model = catalog.get(name)
            if model is None:
                self._not_loaded(name)
            else:
                described = _described(model.name, model.directory)
                self._answer(200, json.dumps(described).encode(), _JSON)
        else:
            self._answer(404)

    def do_DELETE(self) -> None:
        name = self._model_name()
        if name is None:
            self._answer(404)
        elif self.server.catalog.unload(name):
            self._answer(
                200, json.dumps({"status": f'Model "{name}" unregistered'}).encode(), _JSON
            )
        else:
            self._not_loaded(name)

    def do_POST(self) -> None:
        try:
            body = self._body()
        except _BadRequest as error:
            self._refuse(error)
            return
        path = self._path()
        if path == "/invocations" and not self.server.multi_model:
            self._invoke(SINGLE, body)
        elif path == "/models" and self.server.multi_model:
            self._load(body)
        elif name := self._model_name("/invoke"):
            self._invoke(name, body)
        else:
            self._answer(404)

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _model_name(self, suffix: str = "") -> str | None:
        """The name in `/models/<name><suffix>`."""
        path = self._path()
        if not (self.server.multi_model and path.startswith("/models/")):
            return None
        if not path.endswith(suffix):
            return None
        name = path[len("/models/") : len(path) - len(suffix)]
        return unquote(name) if name and "/" not in name else None

    def _load(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
            name, url = asked["model_name"], asked["url"]
        except (ValueError, KeyError, TypeError):
            self._answer(400, b'The body must be {"model_name": ..., "url": ...}', _TEXT)
            return
        try:
            self.server.catalog.load(name, Path(url))
        except AlreadyLoadedError:
            self._answer(409, f"Model {name} is already loaded".encode(), _TEXT)
        except CannotLoadError as error:
            status = _INSUFFICIENT_STORAGE if error.out_of_memory else 500
            self._answer(status, str(error).encode(), _TEXT)
        else:
            self._answer(200, json.dumps({"status": f'Model "{name}" loaded'}).encode(), _JSON)

    def _invoke(self, name: str, body: bytes) -> None:
        model = self.server.catalog.get(name)
        if model is None:
            self._not_loaded(name)
            return
        begun = False
        try:
            with closing(model.invoke(dict(self.headers.items()), body)) as messages:
                for message in messages:
                    self._pass_on(message)
                    begun = True
        except ModelClosedError:
            self._answer(503, b"The model has been unloaded.", _TEXT)
        except WorkerEndedError as error:
            log(str(error))
            if begun:
                self.close_connection = True
            else:
                self._answer(500, str(error).encode(), _TEXT)

    def _pass_on(self, message: Message) -> None:
        kind, *rest = message
        if kind == "answer":
            status, phrase, headers, body = rest
            self._answer(status, body, headers, phrase)
        elif kind == "head":
            status, phrase, headers = rest
            # A client of HTTP/1.0 reads to the end of the connection.
            self.chunked = self.request_version != "HTTP/1.0"
            if self.chunked:
                headers["Transfer-Encoding"] = "chunked"
            else:
                self.close_connection = True
            self.connection.sendall(self._head(status, headers, phrase))
        elif kind == "part":
            (data,) = rest
            self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)
        elif rest[0]:
            if self.chunked:
                self.connection.sendall(b"0\r\n\r\n")
        else:
            self.close_connection = True  # without the last chunk: the client sees that it is cut

    def _not_loaded(self, name: str) -> None:
        self._answer(404, f"Model {name} is not loaded".encode(), _TEXT)

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        phrase: str = "",
    ) -> None:
        length = {**(headers or {}), "Content-Length": str(len(body))}
        head = self._head(status, length, phrase)
        if len(body) <= SMALL:
            self.connection.sendall(head + body)
        else:
            self.connection.sendall(head)
            self.connection.sendall(body)

    def _head(self, status: int, headers: dict[str, str], phrase: str) -> bytes:
        if self.server.draining:
            self.close_connection = True
        if not phrase:
            phrase = self.responses[status][0] if status in self.responses else "Unknown"
        if self.close_connection:
            headers = {**headers, "Connection": "close"}
        lines = [
            f"HTTP/1.1 {int(status)} {phrase}",
            *(f"{name}: {headers[name]}" for name in headers),
        ]
        text = "\r\n".join(line.replace("\r", " ").replace("\n", " ") for line in lines)
        return f"{text}\r\n\r\n".encode("latin-1", "replace")

    def _body(self) -> bytes:
        """The request's body; raises _BadRequest."""
        limit = self.server.body_limit
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks(limit)
        text = self.headers.get("Content-Length", "0").strip()
        if not text.isdecimal():
            raise _BadRequest(400, "Content-Length is not a number")
        if int(text) > limit:
            raise _too_large(limit)
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            raise ConnectionResetError("the client went away")
        return body

    def _chunks(self, limit: int) -> bytes:
        chunks, total = [], 0
        while True:
            try:
                size = int(self.rfile.readline(1024).partition(b";")[0], 16)
            except ValueError:
                size = -1
            if size < 0:
                raise _BadRequest(400, "a chunk of the body has no size")
            total += size
            if total > limit:
                raise _too_large(limit)
            chunks.append(self.rfile.read(size))
            if len(chunks[-1]) < size:
                raise ConnectionResetError("the client went away")
            if not size:
                while self.rfile.readline(1024).strip():
                    pass  # trailers
                return b"".join(chunks)
            self.rfile.readline(8)

    def _refuse(self, error: _BadRequest) -> None:
        """Answer without the rest of the body, which may be on its way."""
        self.close_connection = True
        self._answer(error.status, str(error).encode(), _TEXT)
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(DISCARD_SECONDS)
        while self.rfile.read1(1 << 20):
            pass  # a connection closed now would be reset before the client has read the answer

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """A request that the base class cannot read."""
        self.close_connection = True
        self._answer(code, (message or "").encode(), _TEXT)


def _described(name: str, directory: Path) -> dict[str, str]:
    return {"modelName": name, "modelUrl": str(directory)}


def _too_large(limit: int) -> _BadRequest:
    return _BadRequest(413, f"The body is larger than {limit >> 20} MB")


class Server:
    """Accepts connections on a bound socket until it is woken, then finishes what runs."""

    def __init__(
        self, listening: socket.socket, catalog: Catalog, *, multi_model: bool, body_limit: int
    ):
        self.catalog = catalog
        self.multi_model, self.body_limit = multi_model, body_limit
        self.draining = False
        self._listening = listening
        self._changed = threading.Condition()
        self._open: set[Connection] = set()
        self._threads = 0

    def serve(self, wake: int) -> bytes:
        """Serve until a byte can be read from the descriptor `wake`; gives that byte."""
        self._listening.listen(BACKLOG)
        self._listening.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while not any(key.fd == wake for key, _ in selector.select()):
                self._accept()
        return os.read(wake, 1)

    def drain(self) -> None:
        """Answer every request that has begun, and close all connections."""
        while self._accept():
            pass  # whoever has connected may have sent a request
        self._listening.close()
        with self._changed:
            self.draining = True
            for connection in self._open:
                if not connection.busy:
                    _stop_reading(connection)
            self._changed.wait_for(lambda: not self._threads)

    def joined(self, connection: Connection) -> None:
        """A connection is there; it has no request yet."""
        with self._changed:
            self._open.add(connection)
            if self.draining:
                _stop_reading(connection)

    def now_busy(self, connection: Connection) -> None:
        """The connection has begun to read a request."""
        with self._changed:
            connection.busy = True

    def now_idle(self, connection: Connection) -> None:
        """The connection waits for its next request."""
        with self._changed:
            connection.busy = False
            if self.draining:
                connection.close_connection = True

    def left(self, connection: Connection) -> None:
        """The connection ends."""
        with self._changed:
            self._open.discard(connection)

    def _accept(self) -> bool:
        """Take one connection; False if none waits."""
        try:
            accepted, address = self._listening.accept()
        except (BlockingIOError, ConnectionError):
            return False
        accepted.setblocking(True)
        with self._changed:
            self._threads += 1
        threading.Thread(target=self._handle, args=(accepted, address), daemon=True).start()
        return True

    def _handle(self, accepted: socket.socket, address: Any) -> None:
        try:
            with suppress(OSError), accepted:  # the client may have gone already
                Connection(accepted, address, self)  # type: ignore[arg-type]
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()


def _stop_reading(connection: Connection) -> None:
    """Let the connection end at the next read; what has arrived is still read."""
    with suppress(OSError):
        connection.connection.shutdown(socket.SHUT_RD)
