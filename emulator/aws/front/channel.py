"""Messages with open files between two processes, in the order in which they were sent."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_MESSAGE_BYTES = 64 * 1024
_FILES = 64

Message = dict[str, Any]

log = logging.getLogger(__name__)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, one for each process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def read(end: socket.socket) -> tuple[Message, list[int]]:
    """One message and its files; raises EOFError when the other process has closed its end.

    The files are missing where this process can have no more open ones. Raises ValueError for a
    message that is cut.
    """
    data, files, flags, _ = socket.recv_fds(end, _MESSAGE_BYTES, _FILES)
    if not data:
        raise EOFError
    if flags & socket.MSG_CTRUNC:
        _close(files)
        files = []
    try:
        return json.loads(data), list(files)
    except ValueError:
        _close(files)
        raise


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
        except ValueError as error:
            log.error("a message between the emulator's processes cannot be read: %s", error)
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
            except (BrokenPipeError, ConnectionResetError):  # the reader tells the end
                pass
            except OSError as error:
                log.error("a message between the emulator's processes is lost: %s", error)
            self._waiting.popleft()
            _close(files)
        if self._end.fileno() >= 0:
            self._loop.remove_writer(self._end.fileno())


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def send_connection(channel: Channel, origin: int, connection: int, received: bytes) -> None:
    """Hand an open connection over, with what was received on it; it is closed here.

    Where no more files can be opened the connection ends.
    """
    try:
        file = stored(received)
    except OSError as error:
        log.error("a connection is closed, since it cannot be handed over: %s", error)
        os.close(connection)
        return
    channel.send({"connection": origin}, [connection, file])


def connection_of(files: list[int]) -> tuple[socket.socket, bytes] | None:
    """The connection that came, and what was received on it; None if too many files are open."""
    if len(files) != 2:
        _close(files)
        log.error("a connection is closed: this process can have no more open files")
        return None
    return socket.socket(fileno=files[0]), taken(files[1])


def stored(data: bytes) -> int:
    """A file in memory with these bytes: they may be more than a message takes. Raises OSError."""
    file = os.memfd_create("received")
    with os.fdopen(os.dup(file), "wb") as target:
        target.write(data)
    return file


def taken(file: int) -> bytes:
    """The bytes of such a file, which is closed."""
    with os.fdopen(file, "rb") as source:
        source.seek(0)
        return source.read()
