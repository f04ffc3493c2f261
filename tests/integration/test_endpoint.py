"""How the endpoint's port answers, apart from what it says."""

from __future__ import annotations

import socket

from fastapi import FastAPI
from http_server import serving
from wire import whole

from emulator.aws.gateway import Gateway, Shortcut
from emulator.parts import listen
from emulator.settings import Settings

SIGNED = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sts/aws4_request, Signature=0"


def test_answers_do_not_wait_for_acknowledgements() -> None:
    listening = listen("127.0.0.1", 0)
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    # What asyncio looks at before it sets TCP_NODELAY.
    assert accepted.proto == socket.IPPROTO_TCP
    for one in (client, accepted, listening):
        one.close()


def test_what_is_signed_takes_the_shortcut() -> None:
    pages = FastAPI()

    @pages.get("/page")
    def page() -> str:
        return "a page"

    pages.add_middleware(Shortcut, gateway=Gateway({}, Settings()))
    with serving(pages) as url:
        host, port = url.removeprefix("http://").split(":")

        def answer(authorization: str) -> bytes:
            with socket.create_connection((host, int(port))) as line:
                head = f"GET /page HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                line.sendall(f"{head}{authorization}\r\n".encode())
                return whole(line)

        assert b'"a page"' in answer("")
        assert b'"a page"' in answer("Authorization: Bearer x\r\n")
        assert b"The service sts is not built" in answer(f"Authorization: {SIGNED}\r\n")
