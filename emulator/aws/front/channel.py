"""Messages with open files between two processes, in the order in which they were sent."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_MESSAGE_BYTES = 64 * 1024
_FILES = 64

Message = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, one for each process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def read(end: socket.socket) -> tuple[Message, list[int]]:
    """One message and its files; raises EOFError when the other process has closed its end."""
    data, files, _, _ = socket.recv_fds(end, _MESSAGE_BYTES, _FILES)
    if not data:
        raise EOFError
    return json.loads(data), list(files)


class Channel:
    """One end, served by an event loop; not thread-safe."""

    def __init__(
        self,
        end: socket.socket,
        on_message: Callable[[Message, list[int]], None],
        on_end: Callable[[], None],
    ):
        """`on_message` owns the files it is given. `on_end`: the other process is gone."""
        self._end = end
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._read)

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """Send a message; the files are closed here once they are sent, or cannot be."""
        self._waiting.append((json.dumps(message).encode(), tuple(files)))
        if len(self._waiting) == 1:
            self._write()

    def close(self) -> None:
        """Send and receive nothing more."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
            self._end.close()
        while self._waiting:
            _close(self._waiting.popleft()[1])

    def _read(self) -> None:
        try:
            message, files = read(self._end)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self.close()
            self._on_end()
            return
        self._on_message(message, files)

    def _write(self) -> None:
        while self._waiting:
            data, files = self._waiting[0]
            try:
                socket.send_fds(self._end, [data], files)
            except BlockingIOError:
                self._loop.add_writer(self._end.fileno(), self._write)
                return
            except OSError:  # the reader tells the end
                pass
            self._waiting.popleft()
            _close(files)
        if self._end.fileno() >= 0:
            self._loop.remove_writer(self._end.fileno())


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def stored(data: bytes) -> int:
    """A file in memory with these bytes: they may be more than a message takes."""
    file = os.memfd_create("received")
    with os.fdopen(os.dup(file), "wb") as target:
        target.write(data)
    return file


def taken(file: int) -> bytes:
    """The bytes of such a file, which is closed."""
    with os.fdopen(file, "rb") as source:
        source.seek(0)
        return source.read()
