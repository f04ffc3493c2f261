"""A real STS client, a real tunnel, real TLS; only the emulator behind is a small server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.session
import pytest
import requests
from botocore.config import Config
from wire import answer_head, exactly

from emulator.cli.certificates import authority, server_context
from emulator.cli.sts_proxy import StsProxy
from emulator.cli.trust import write_bundle

ANSWER = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>
</GetCallerIdentityResponse>"""


class Sts(BaseHTTPRequestHandler):
    """Answers GetCallerIdentity and remembers who was asked for."""

    hosts: tuple[str, ...] = ()

    def do_POST(self) -> None:
        Sts.hosts += (self.headers["Host"],)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


@pytest.fixture
def behind() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(behind: str, tmp_path: Path) -> Iterator[str]:
    with StsProxy(behind, server_context(authority(tmp_path)), {}).serve(0) as url:
        yield url


def answer(proxy: str, request: bytes) -> str:
    """The first line of what the proxy says to a request."""
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        return answer_head(connection).split("\r\n", 1)[0]


def test_the_fixed_sts_host_is_answered_by_the_emulator(proxy: str, tmp_path: Path) -> None:
    client = botocore.session.Session().create_client(
        "sts",
        region_name="eu-west-1",
        endpoint_url="https://sts.eu-west-1.amazonaws.com",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        verify=str(write_bundle(tmp_path, None)),
        config=Config(proxies={"https": proxy}),
    )
    assert client.get_caller_identity()["Account"] == "123456789012"
    assert Sts.hosts[-1] == "sts.eu-west-1.amazonaws.com"


def test_other_hosts_get_their_bytes_untouched(proxy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        target = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        host, port = proxy.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            peer, _ = elsewhere.accept()
            with peer:
                peer.settimeout(60)
                assert answer_head(client).startswith("HTTP/1.1 200 ")
                client.sendall(b"\x16\x03anything")
                assert exactly(peer, 10) == b"\x16\x03anything"
                peer.sendall(b"back")
                assert exactly(client, 4) == b"back"


def test_telemetry_gets_an_empty_answer_and_goes_nowhere(proxy: str, tmp_path: Path) -> None:
    answered = requests.get(
        "https://sm-pysdk-t-eu-west-1.s3.eu-west-1.amazonaws.com/telemetry?x-status=1",
        proxies={"https": proxy},
        verify=str(write_bundle(tmp_path, None)),
        timeout=60,
    )
    assert (answered.status_code, answered.content) == (200, b"")
    assert "sm-pysdk-t-eu-west-1.s3.eu-west-1.amazonaws.com" not in Sts.hosts


def test_it_is_no_proxy_for_plain_http(proxy: str) -> None:
    request = b"GET http://example.org/ HTTP/1.1\r\n\r\n"
    assert answer(proxy, request) == "HTTP/1.1 405 Method Not Allowed"


def test_a_host_that_refuses_is_a_bad_gateway(proxy: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{closed.getsockname()[1]}"
        request = f"CONNECT {name} HTTP/1.1\r\n\r\n".encode()
        assert answer(proxy, request) == "HTTP/1.1 502 Bad Gateway"


def test_a_taken_port_is_replaced(behind: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with StsProxy(behind, server_context(authority(tmp_path)), {}).serve(port) as url:
            assert not url.endswith(f":{port}")
