"""The writing end of a named pipe whose reader may be slow, may leave, or may never come."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from threading import Event

_LOOK_SECONDS = 0.02
_LOOK_MS = 200


class ReaderLeft(Exception):
    """The reader closed its end before it had everything."""


class Fifo:
    """A named pipe that exists while the context lasts; one thread writes to it."""

    def __init__(self, path: Path, ended: Event):
        """`ended` interrupts every wait."""
        self._path = path
        self._ended = ended
        self._descriptor = -1

    def __enter__(self) -> Fifo:
        os.mkfifo(self._path, 0o644)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._path.unlink(missing_ok=True)

    def wait_for_reader(self) -> bool:
        """False if the end came before a reader did. Raises OSError."""
        while not self._ended.is_set():
            try:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
                return True
            except OSError as error:
                # ENXIO: nobody has it open for reading.
                if error.errno != errno.ENXIO:
                    raise
            self._ended.wait(_LOOK_SECONDS)
        return False

    def write(self, data: bytes) -> None:
        """Raises ReaderLeft, also when the end has come."""
        left = memoryview(data)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while left:
            if self._ended.is_set():
                raise ReaderLeft
            if not poll.poll(_LOOK_MS):
                continue
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise ReaderLeft from error


Write = Callable[[bytes], None]
