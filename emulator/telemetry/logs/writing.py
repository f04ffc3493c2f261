"""Appending to log streams: all who write one share what is known of its end."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from emulator.telemetry.logs.lines import backward, committed, escaped


class Tail:
    """The end of one stream's file; a script's own events and the emulator's meet here."""

    def __init__(self, path: Path):
        """Opens the file, made if need be, and removes a last line that a kill cut off.

        Nobody may have it open: what they write at this moment would look cut off, too.
        """
        self.path = path
        self.holders = 0
        self._lock = Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._size, self._last = self._look()
            os.ftruncate(self._file, self._size)
        except BaseException:
            os.close(self._file)
            raise

    def is_at(self, path: Path) -> bool:
        """Is the file still the one of this name? Streams can be deleted and made again."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def write_all(self, messages: Sequence[str], timestamp_ms: int, received: int | None) -> None:
        """See LogWriter."""
        with self._lock:
            self._last = max(self._last, timestamp_ms)
            if received is None:
                head = last = b"%d " % self._last
            else:
                head, last = b"%d+ " % self._last, b"%d=%d " % (self._last, received)
            lines = [head + escaped(text) + b"\n" for text in messages[:-1]]
            self._append(b"".join((*lines, last + escaped(messages[-1]) + b"\n")))

    def received(self) -> int:
        """See LogStore."""
        with self._lock, open(self._file, "rb", closefd=False) as file:
            found, whole = 0, self._size
            for event in backward(file, self._size, 0):
                file.seek(event.start)
                head = file.read(event.end - event.start).partition(b" ")[0]
                if head.endswith(b"+"):
                    whole = event.start
                elif b"=" in head:
                    found = int(head.partition(b"=")[2])
                    break
            os.ftruncate(self._file, whole)
            self._size, self._last = self._look()
        return found

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _look(self) -> tuple[int, int]:
        """Where the last whole line ends, and its timestamp."""
        with open(self._file, "rb", closefd=False) as file:
            size = committed(file)
            last = next(backward(file, size, 0), None)
        return size, last.timestamp if last else 0

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # A full disk must not leave half a line for the next one to be glued to.
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)


class Tails:
    """The streams that are being written, each opened once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[Path, Tail] = {}

    def take(self, path: Path) -> Tail:
        """To be given back."""
        with self._lock:
            tail = self._open.get(path)
            if tail is None or not tail.is_at(path):
                tail = self._open[path] = Tail(path)
            tail.holders += 1
            return tail

    def give_back(self, tail: Tail) -> None:
        """The last one to do so closes the file."""
        with self._lock:
            tail.holders -= 1
            if tail.holders:
                return
            tail.close()
            if self._open.get(tail.path) is tail:
                del self._open[tail.path]

    def remove_unless_open(self, path: Path) -> bool:
        """Remove a stream's file; False where it is being written."""
        with self._lock:
            if path in self._open:
                return False
            path.unlink(missing_ok=True)
            return True

    @contextmanager
    def held(self, path: Path) -> Iterator[Tail]:
        """Taken for a moment."""
        tail = self.take(path)
        try:
            yield tail
        finally:
            self.give_back(tail)


class LogWriter:
    """Appends to one stream; several may do so at once, each in whole batches of lines."""

    def __init__(self, tails: Tails, path: Path):
        self._tails = tails
        self._lock = Lock()
        self._tail: Tail | None = tails.take(path)

    def write(self, message: str, timestamp_ms: int) -> None:
        """Append one event; readers see it when this returns."""
        self.write_all((message,), timestamp_ms)

    def write_all(
        self, messages: Sequence[str], timestamp_ms: int, received: int | None = None
    ) -> None:
        """Append events of one moment; an earlier moment than the last counts as the last.

        `received` is how much of its instance's output, in bytes, the stream has with them.
        Raises OSError, also once it is closed.
        """
        if not messages:
            return
        with self._lock:
            if self._tail is None:
                raise OSError(errno.EBADF, "the log stream's writer is closed")
            self._tail.write_all(messages, timestamp_ms, received)

    def close(self) -> None:
        """Nothing more is written; may be called more than once."""
        with self._lock:
            tail, self._tail = self._tail, None
        if tail:
            self._tails.give_back(tail)
