"""A Docker engine without containers: the part of the Engine API that the emulator uses.

It answers on a unix socket, so that the real client and its parsing are under test. A
container does what the test says: it writes and ends when told to. Paths of the API can be
made to fail, and the engine can go away and come back.
"""

from __future__ import annotations

import itertools
import json
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from docker.client import DockerClient

FINISHED = "2026-01-02T03:04:05.5Z"
NEVER = "0001-01-01T00:00:00Z"


@dataclass
class Container:
    """`body` is that of ContainerCreate."""

    id: str
    name: str
    body: dict[str, Any]
    changed: threading.Condition
    output: bytes = b""
    status: str = "created"
    code: int = 0
    oom: bool = False
    signals: list[str] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.body.get("Labels") or {})

    @property
    def running(self) -> bool:
        return self.status == "running"

    def write(self, data: bytes) -> None:
        with self.changed:
            self.output += data
            self.changed.notify_all()

    def end(self, code: int = 0, *, oom: bool = False) -> None:
        with self.changed:
            self.status, self.code, self.oom = "exited", code, oom
            self.changed.notify_all()

    def state(self) -> dict[str, Any]:
        return {
            "Status": self.status,
            "Running": self.running,
            "ExitCode": self.code,
            "OOMKilled": self.oom,
            "Error": "",
            "FinishedAt": FINISHED if self.status == "exited" else NEVER,
        }


class FakeEngine:
    """Start it with `running`."""

    def __init__(self, socket_path: Path):
        self.url = f"unix://{socket_path}"
        self.images: dict[str, dict[str, Any]] = {}
        self.registry: dict[str, tuple[int, str]] = {}
        """By image: how the registry's answer is told; others are not known to it."""
        self.containers: dict[str, Container] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        """Method and path of all that was asked."""
        self.on_signal: Callable[[Container, str], None] = lambda _, __: None
        """What a container does when it gets a signal other than SIGKILL."""
        self._path = socket_path
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._faults: list[tuple[re.Pattern[str], Callable[[_Handler], None]]] = []
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    @classmethod
    @contextmanager
    def running(cls, directory: Path) -> Iterator[FakeEngine]:
        engine = cls(directory / "engine.sock")
        engine.come()
        try:
            yield engine
        finally:
            engine.go()

    def client(self) -> DockerClient:
        return DockerClient(self.url, version="1.41", timeout=20)

    def come(self) -> None:
        """Answer, from now on."""
        engine = self

        class Handler(_Handler):
            fake = engine

        self._server = _Server(str(self._path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        """Answer no more; open connections break. The containers go on."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            self._path.unlink(missing_ok=True)
        with self._changed:
            self._changed.notify_all()

    @property
    def away(self) -> bool:
        return self._server is None

    def has_image(self, name: str, **config: Any) -> None:
        found = {"Id": f"sha256:{len(self.images)}", "RepoTags": [name], "Config": config}
        self.images[name] = found

    def container(self, host: str) -> Container:
        """The instance of that host name."""
        (found,) = (
            one
            for one in self.containers.values()
            if one.labels.get("sagemaker-emulator.host") == host
        )
        return found

    def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for what requests and containers change."""
        with self._changed:
            assert self._changed.wait_for(true, seconds), self.requests

    def fails(self, request: str, how: Callable[[_Handler], None]) -> None:
        """Answer what matches `METHOD /path` by `how` instead, until `recovers`."""
        self._faults.insert(0, (re.compile(request), how))

    def recovers(self) -> None:
        self._faults.clear()

    def new_id(self) -> str:
        return f"{next(self._numbers):064x}"


def nonsense(handler: _Handler) -> None:
    """An answer that is no JSON."""
    handler.send(200, b"<html>not an engine</html>", "application/json")


def refusal(status: int, message: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.answer({"message": message}, status)


def hang_up(handler: _Handler) -> None:
    handler.close_connection = True


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeEngine

    def log_message(self, *_: Any) -> None: ...

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def answer(self, body: Any, status: int = 200) -> None:
        self.send(status, b"" if status == 204 else json.dumps(body).encode(), "application/json")

    def send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length) or b"null") if length else None
        split = urlsplit(self.path)
        path = unquote(re.sub(r"^/v[\d.]+", "", split.path))
        self.query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        engine = self.fake
        with engine._changed:
            engine.requests.append(f"{method} {path}")
            engine._changed.notify_all()
            fault = next(
                (how for what, how in engine._faults if what.search(f"{method} {path}")), None
            )
        if engine.away:
            self.close_connection = True
            return
        if fault:
            fault(self)
            return
        for pattern, function in _ROUTES:
            if found := re.fullmatch(pattern, f"{method} {path}"):
                function(self, *found.groups())
                return
        self.answer({"message": f"the fake engine has no {method} {path}"}, 501)

    def _filtered(
        self, things: dict[str, Any], labels: Callable[[Any], dict[str, str]]
    ) -> list[Any]:
        wanted = json.loads(self.query.get("filters", "{}")).get("label", [])
        pairs = [label.partition("=") for label in wanted]
        return [
            thing
            for thing in list(things.values())
            if all(
                name in labels(thing) and (not equals or labels(thing)[name] == value)
                for name, equals, value in pairs
            )
        ]

    def _find(self, name: str) -> Container | None:
        found = self.fake.containers.get(name)
        if found is None:
            self.answer({"message": f"No such container: {name}"}, 404)
        return found

    def ping(self) -> None:
        self.send(200, b"OK", "text/plain")

    def info(self) -> None:
        self.answer({"ServerVersion": "20.10.24", "MemTotal": 8 << 30, "SecurityOptions": []})

    def inspect_image(self, name: str) -> None:
        found = self.fake.images.get(name)
        self.answer(*((found,) if found else ({"message": f"No such image: {name}"}, 404)))

    def list_images(self) -> None:
        wanted = json.loads(self.query.get("filters", "{}")).get("reference", [""])[0]
        tags = [name for name in self.fake.images if name.startswith(f"{wanted}:")]
        self.answer([self.fake.images[name] for name in tags])

    def distribution(self, name: str) -> None:
        status, message = self.fake.registry.get(name, (500, "dial tcp: no such host"))
        self.answer({"message": message} if status != 200 else {"Descriptor": {}}, status)

    def create_container(self) -> None:
        engine = self.fake
        image = self.body["Image"]
        if image not in engine.images:
            self.answer({"message": f"No such image: {image}"}, 404)
            return
        container = Container(
            engine.new_id(), self.query.get("name", ""), self.body, engine._changed
        )
        with engine._changed:
            engine.containers[container.id] = container
            engine._changed.notify_all()
        self.answer({"Id": container.id, "Warnings": []}, 201)

    def list_containers(self) -> None:
        found = self._filtered(self.fake.containers, lambda one: one.labels)
        self.answer(
            [
                {
                    "Id": one.id,
                    "Labels": one.labels,
                    "State": one.status,
                    "Mounts": [
                        {"Source": mount["Source"], "Destination": mount["Target"]}
                        for mount in one.body.get("HostConfig", {}).get("Mounts", [])
                        if mount["Type"] == "bind"
                    ],
                }
                for one in found
                if one.running or "all" in self.query
            ]
        )

    def inspect_container(self, name: str) -> None:
        if one := self._find(name):
            self.answer(
                {
                    "Id": one.id,
                    "State": one.state(),
                    "Config": {"Tty": False, "Labels": one.labels},
                    "Mounts": [],
                }
            )

    def start_container(self, name: str) -> None:
        if one := self._find(name):
            with one.changed:
                one.status = "running"
                one.changed.notify_all()
            self.answer(None, 204)

    def kill_container(self, name: str) -> None:
        one = self._find(name)
        if one is None:
            return
        if not one.running:
            self.answer({"message": f"Container {name} is not running"}, 409)
            return
        signal = self.query.get("signal", "SIGKILL")
        with one.changed:
            one.signals.append(signal)
            one.changed.notify_all()
        if signal == "SIGKILL":
            one.end(137)
        else:
            self.fake.on_signal(one, signal)
        self.answer(None, 204)

    def remove_container(self, name: str) -> None:
        if one := self._find(name):
            with one.changed:
                del self.fake.containers[name]
                one.status = "removed"
                one.changed.notify_all()
            self.answer(None, 204)

    def get_archive(self, name: str) -> None:
        if self._find(name):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("X-Docker-Container-Path-Stat", "e30=")
            self.end_headers()

    def attach(self, name: str) -> None:
        one = self._find(name)
        if one is None:
            return
        self.wfile.write(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        self._stream(one, len(one.output), follow=True)

    def logs(self, name: str) -> None:
        one = self._find(name)
        if one is None:
            return
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self._stream(one, 0, follow=self.query.get("follow") == "1")

    def _stream(self, one: Container, sent: int, *, follow: bool) -> None:
        self.close_connection = True
        while True:
            with one.changed:
                while follow and len(one.output) == sent and self._goes_on(one):
                    one.changed.wait()
                news = one.output[sent:]
                over = not follow or not self._goes_on(one)
            if self.fake.away:
                return
            if news:
                self.wfile.write(struct.pack(">BxxxL", 1, len(news)) + news)
                sent += len(news)
            if over:
                return

    def _goes_on(self, one: Container) -> bool:
        return one.status in ("created", "running") and not self.fake.away

    def create_network(self) -> None:
        engine, found = self.fake, {"Id": self.fake.new_id(), "Labels": {}, **self.body}
        with engine._changed:
            engine.networks[found["Id"]] = found
            engine._changed.notify_all()
        self.answer({"Id": found["Id"]}, 201)

    def list_networks(self) -> None:
        self.answer(self._filtered(self.fake.networks, lambda one: one["Labels"] or {}))

    def inspect_network(self, name: str) -> None:
        found = self.fake.networks.get(name)
        self.answer(*((found,) if found else ({"message": "no such network"}, 404)))

    def remove_network(self, name: str) -> None:
        with self.fake._changed:
            self.fake.networks.pop(name, None)
            self.fake._changed.notify_all()
        self.answer(None, 204)

    def create_volume(self) -> None:
        self.fake.volumes[self.body["Name"]] = self.body
        self.answer(self.body, 201)

    def list_volumes(self) -> None:
        found = self._filtered(self.fake.volumes, lambda one: one.get("Labels") or {})
        self.answer({"Volumes": found, "Warnings": None})

    def remove_volume(self, name: str) -> None:
        self.fake.volumes.pop(name, None)
        self.answer(None, 204)


_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"(?:GET|HEAD) /_ping", _Handler.ping),
    (r"GET /info", _Handler.info),
    (r"GET /images/json", _Handler.list_images),
    (r"GET /images/(.+)/json", _Handler.inspect_image),
    (r"GET /distribution/(.+)/json", _Handler.distribution),
    (r"POST /containers/create", _Handler.create_container),
    (r"GET /containers/json", _Handler.list_containers),
    (r"GET /containers/([^/]+)/json", _Handler.inspect_container),
    (r"POST /containers/([^/]+)/start", _Handler.start_container),
    (r"POST /containers/([^/]+)/kill", _Handler.kill_container),
    (r"POST /containers/([^/]+)/attach", _Handler.attach),
    (r"GET /containers/([^/]+)/logs", _Handler.logs),
    (r"GET /containers/([^/]+)/archive", _Handler.get_archive),
    (r"DELETE /containers/([^/]+)", _Handler.remove_container),
    (r"POST /networks/create", _Handler.create_network),
    (r"GET /networks", _Handler.list_networks),
    (r"GET /networks/([^/]+)", _Handler.inspect_network),
    (r"DELETE /networks/([^/]+)", _Handler.remove_network),
    (r"POST /volumes/create", _Handler.create_volume),
    (r"GET /volumes", _Handler.list_volumes),
    (r"DELETE /volumes/([^/]+)", _Handler.remove_volume),
]
