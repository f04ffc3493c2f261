"""The writing end of a named pipe whose reader may be slow, may leave, or may never come."""

from __future__ import annotations

import errno
import os
import select
import stat
from contextlib import suppress
from pathlib import Path
from threading import Event

from emulator.data.outputs.beneath import open_beneath

_LOOK_SECONDS = 0.02
_LOOK_MS = 200


class ReaderLeft(Exception):
    """The reader closed its end before it had everything."""


class Fifo:
    """A named pipe that exists while the context lasts; one thread writes to it."""

    def __init__(self, path: Path, ended: Event, depth: int = 1):
        """`ended` interrupts every wait.

        The script may replace the pipe and the last `depth` directories on the way to it by links:
        none is followed.
        """
        self._depth = depth
        self._path = path
        self._ended = ended
        self._descriptor = -1
        self._folder = -1

    def __enter__(self) -> Fifo:
        self._folder = open_beneath(self._path.parent, self._depth, os.O_DIRECTORY)
        try:
            os.mkfifo(self._path.name, 0o644, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(FileNotFoundError):
            os.unlink(self._path.name, dir_fd=self._folder)
        os.close(self._folder)

    def wait_for_reader(self) -> bool:
        """False if the end came before a reader did. Raises OSError."""
        while not self._ended.is_set():
            try:
                self._descriptor = self._open()
                return True
            except OSError as error:
                # ENXIO: nobody has it open for reading.
                if error.errno != errno.ENXIO:
                    raise
            self._ended.wait(_LOOK_SECONDS)
        return False

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path.name, flags, dir_fd=self._folder)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no pipe any more", str(self._path))

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
