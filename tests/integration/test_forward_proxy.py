"""The way out of a job's network, with real sockets on both sides."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from wire import answer_head, whole

from emulator.drivers.aws_hosts import refusal
from emulator.drivers.forward_proxy import ForwardProxy
from emulator.drivers.tunnel import Target

PORT = 4570
"""The emulator's, where nothing listens outside a job's network, or it is not asked."""


class Elsewhere(BaseHTTPRequestHandler):
    """Another proxy, which is also every server behind it: answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = [f"{self.command} {self.path}", self.headers["Host"]]
        told += [str(self.headers[name]) for name in ("Connection", "Proxy-Authorization")]
        told.append(body.decode())
        text = "\n".join(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_CONNECT(self) -> None:
        if self.path.startswith("forbidden."):
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"tunnel to {self.path}".encode())
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:pass@127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def proxy(ambient: Mapping[str, str], door: Target | None = None) -> Iterator[socket.socket]:
    """A client's connection to a proxy of a machine with that environment."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    with (
        closing(ForwardProxy(listening, ambient, PORT, door, partial(refusal, reach="data"))),
        socket.create_connection(address, 60) as client,
    ):
        client.settimeout(60)
        yield client


def talk(client: socket.socket, request: str) -> str:
    """Send a request, and read until the other side closes."""
    client.sendall(request.encode())
    return whole(client).decode()


def address_of_this_machine() -> str:
    """One that is not loopback, as seen by a way out; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        try:
            way_out.connect(("192.0.2.1", 9))
        except OSError as error:
            pytest.skip(f"this machine has no network: {error}")
        return str(way_out.getsockname()[0])


def test_a_tunnel_goes_through_the_machines_own_proxy(elsewhere: str) -> None:
    with proxy({"https_proxy": elsewhere}) as client:
        answer = talk(client, "CONNECT Index.example:443 HTTP/1.1\r\nHost: index.example\r\n\r\n")
    assert answer == "HTTP/1.1 200 Connection established\r\n\r\ntunnel to index.example:443"


def test_a_tunnel_the_other_proxy_refuses_is_a_bad_gateway(elsewhere: str) -> None:
    with proxy({"https_proxy": elsewhere}) as client:
        answer = talk(client, "CONNECT forbidden.example:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 502 ")


def test_a_plain_request_goes_through_the_machines_own_proxy(elsewhere: str) -> None:
    request = "POST http://index.example/a?b HTTP/1.1\r\nHost: index.example\r\n"
    request += (
        "Connection: keep-alive\r\nProxy-Authorization: mine\r\nContent-Length: 4\r\n\r\nbody"
    )
    with proxy({"http_proxy": elsewhere}) as client:
        answer = talk(client, request)
    told = answer.split("\r\n\r\n", 1)[1].split("\n")
    assert told == [
        "POST http://index.example/a?b",
        "index.example",
        "close",
        "Basic dXNlcjpwYXNz",
        "body",
    ]


@pytest.mark.parametrize("scheme", ["tunnel", "plain"])
def test_without_another_proxy_it_connects_itself(scheme: str) -> None:
    host = address_of_this_machine()
    with ThreadingHTTPServer((host, 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"{host}:{server.server_port}"
        rest = f"HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
        with proxy({}) as client:
            if scheme == "tunnel":
                client.sendall(f"CONNECT {name} HTTP/1.1\r\n\r\n".encode())
                assert answer_head(client).startswith("HTTP/1.1 200 ")
                answer = talk(client, f"POST /x {rest}")
            else:
                answer = talk(client, f"POST http://{name}/x {rest}")
        server.shutdown()
    assert answer.split("\r\n\r\n", 1)[1].split("\n")[:2] == ["POST /x", name]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "127.1.2.3",
        "127.1",
        "0x7f000001",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
    ],
)
@pytest.mark.parametrize("line", ["CONNECT {}", "GET http://{}/"])
def test_this_machines_own_services_are_refused(host: str, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        name = f"{host}:{service.getsockname()[1]}"
        with proxy({}) as client:
            answer = talk(client, f"{line.format(name)} HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 403 ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("scheme", ["tunnel", "plain"])
def test_the_emulator_is_reached_at_its_door_for_jobs(host: str, scheme: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        door = Target("127.0.0.1", server.server_port)
        name = f"{host}:{PORT}"
        rest = f"HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
        # Also where this machine's requests go through a proxy.
        with proxy({"http_proxy": "http://192.0.2.1:1"}, door) as client:
            if scheme == "tunnel":
                client.sendall(f"CONNECT {name} HTTP/1.1\r\n\r\n".encode())
                assert answer_head(client).startswith("HTTP/1.1 200 ")
                answer = talk(client, f"POST /x {rest}")
            else:
                answer = talk(client, f"POST http://{name}/x {rest}")
        with proxy({}, door) as client:  # nothing else of this machine, the door included
            refused = talk(client, f"CONNECT {host}:{server.server_port} HTTP/1.1\r\n\r\n")
        server.shutdown()
    assert answer.split("\r\n\r\n", 1)[1].split("\n")[:2] == ["POST /x", name]
    assert refused.startswith("HTTP/1.1 403 ")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine knows more names; `rebound.example` changes its mind after one question."""
    asked: list[str] = []

    def known(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        others = {"this-machine": "127.0.1.1", "mapped.example": "::ffff:127.0.0.1"}
        others["rebound.example"] = "127.0.0.1" if asked.count(host) > 1 else "192.0.2.7"
        return real(others.get(host, host), *rest, **more)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", known)


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize("name", ["localhost.", "this-machine", "mapped.example"])
@pytest.mark.parametrize("line", ["CONNECT {}:1", "GET http://{}:1/"])
def test_another_proxy_on_this_machine_is_not_asked_for_its_services(
    elsewhere: str, name: str, line: str
) -> None:
    with proxy({"http_proxy": elsewhere, "https_proxy": elsewhere}) as client:
        answer = talk(client, f"{line.format(name)} HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 403 Jobs do not reach the loopback interface")


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize("line", ["CONNECT {}", "GET http://{}/"])
def test_another_proxy_on_this_machine_is_not_asked_for_the_emulators_port(
    elsewhere: str, line: str
) -> None:
    asked = line.format(f"rebound.example:{PORT}")
    with proxy({"http_proxy": elsewhere, "https_proxy": elsewhere}) as client:
        assert talk(client, f"{asked} HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT user@localhost:1",
        "CONNECT 127.0.0.1:1:443",
        "CONNECT localhost:99999",
        "GET http://user@localhost:1/",
        "GET http://a:80@localhost:1/",
        "GET http://a.example\\@localhost:1/",
        "GET http://a.example#@localhost:1/",
        "GET http://a.example:80localhost/",
    ],
)
def test_what_another_proxy_may_read_otherwise_is_refused(elsewhere: str, line: str) -> None:
    with proxy({"http_proxy": elsewhere, "https_proxy": elsewhere}) as client:
        assert talk(client, f"{line} HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 400 ")


def test_another_proxy_gets_the_host_that_was_understood(elsewhere: str) -> None:
    request = "POST http://index.example?@localhost HTTP/1.1\r\nHost: localhost\r\n"
    with proxy({"http_proxy": elsewhere}) as client:
        answer = talk(client, f"{request}Content-Length: 0\r\n\r\n")
    told = answer.split("\r\n\r\n", 1)[1].split("\n")
    assert told[:2] == ["POST http://index.example/?@localhost", "index.example"]


def test_awss_own_services_are_refused_in_words(elsewhere: str) -> None:
    with proxy({"https_proxy": elsewhere}) as client:
        answer = talk(client, "CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 403 sts.eu-west-1.amazonaws.com is AWS itself.")
    with proxy({"https_proxy": elsewhere}) as client:
        answer = talk(client, "CONNECT ossci-datasets.s3.amazonaws.com:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200 ")


def test_a_host_that_does_not_answer_is_a_bad_gateway() -> None:
    host = address_of_this_machine()
    with socket.socket() as closed:
        closed.bind((host, 0))
        with proxy({}) as client:
            answer = talk(client, f"CONNECT {host}:{closed.getsockname()[1]} HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 502 ")


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "GET ftp://a/ HTTP/1.1", "nonsense"])
def test_what_is_no_request_to_a_proxy_is_a_bad_request(line: str) -> None:
    with proxy({}) as client:
        assert talk(client, f"{line}\r\n\r\n").startswith("HTTP/1.1 400 ")


def test_closing_cuts_what_is_open(elsewhere: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    before = threading.active_count()
    running = ForwardProxy(listening, {}, PORT)
    with socket.create_connection(address, 60) as client:
        client.sendall(b"CONNECT ")
        running.close()
        with suppress(ConnectionResetError):  # what was sent may still be unread
            assert client.recv(1) == b""
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 60)
