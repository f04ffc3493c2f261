"""How the endpoint's port answers, apart from what it says."""

from __future__ import annotations

import socket

from fastapi import FastAPI
from http_server import serving
from wire import whole

from emulator.aws.gateway import Gateway, Shortcut
from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Invocations
from emulator.aws.s3.proxy import S3Proxy
from emulator.parts import listen
from emulator.settings import Settings
from emulator.workloads.serving.routes import Routes

SIGNED = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sts/aws4_request, Signature=0"


def test_answers_do_not_wait_for_acknowledgements() -> None:
    listening = listen("127.0.0.1", 0)
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    # What asyncio looks at before it sets TCP_NODELAY.
    assert accepted.proto == socket.IPPROTO_TCP
    for one in (client, accepted, listening):
        one.close()


class Samples:
    """Keeps nothing."""

    def put(self, *_: object) -> None:
        return


def test_what_is_signed_takes_the_shortcut() -> None:
    pages = FastAPI()

    @pages.get("/page")
    def page() -> str:
        return "a page"

    runtime = Invocations(Routes(), Settings(), InvocationMetrics(Samples()))
    pages.add_middleware(Shortcut, gateway=Gateway({}, Settings()), invocations=runtime)
    with serving(pages) as url:
        host, port = url.removeprefix("http://").split(":")

        def answer(authorization: str, path: str = "/page") -> bytes:
            with socket.create_connection((host, int(port))) as line:
                head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                line.sendall(f"{head}{authorization}\r\n".encode())
                return whole(line)

        assert b'"a page"' in answer("")
        assert b'"a page"' in answer("Authorization: Bearer x\r\n")
        assert b"The service sts is not built" in answer(f"Authorization: {SIGNED}\r\n")
        unknown = answer(f"Authorization: {SIGNED}\r\n", "/endpoints/e/other")
        assert unknown.startswith(b"HTTP/1.1 404")
        assert b"UnknownOperationException" in unknown


def test_head_and_body_of_an_answer_come_in_one_packet() -> None:
    pages = FastAPI()
    pages.mount("/", Gateway({}, Settings()))
    with serving(pages, S3Proxy("http://127.0.0.1:9", "key", "secret")) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            for _ in range(2):
                head = f"POST / HTTP/1.1\r\nHost: {host}\r\nAuthorization: {SIGNED}\r\n"
                line.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
                assert line.recv(65536).endswith(b"}")
