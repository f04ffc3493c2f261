"""What is awaited of a socket: one recv() gives what has come so far, which may be less."""

from __future__ import annotations

import socket


def exactly(source: socket.socket, count: int) -> bytes:
    """That many bytes, and not one of what follows; fewer where the other side closes."""
    got = b""
    while len(got) < count and (data := source.recv(count - len(got))):
        got += data
    return got


def answer_head(source: socket.socket) -> str:
    """An HTTP answer up to its blank line, and not a byte of what follows."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := source.recv(1)):
        head += byte
    return head.decode()


def whole(source: socket.socket) -> bytes:
    """Everything until the other side closes."""
    return b"".join(iter(lambda: source.recv(65536), b""))
