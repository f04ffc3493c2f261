"""A tar.gz that is made while it is read: nothing of it is ever on disk or whole in memory."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import BinaryIO, cast

from emulator.storage.tree import Found, Warn, open_file, printable

_LEVEL = 1
"""Model weights hardly compress at any level; at this one it is three times as fast."""
_BUFFER = 1 << 20


class TarGz:
    """The bytes of an archive, produced by a thread of its own as far as they are read.

    The same tree gives the same bytes: order and metadata do not depend on the machine, and
    owners are left out. A file that shrinks or grows meanwhile is padded or cut to the size
    its header tells, one that went is left out, both with a warning: the archive itself is
    always whole. Leaving the `with` block ends the thread.
    """

    def __init__(self, members: Sequence[Found], warn: Warn, on_bytes: Callable[[int], None]):
        self._members = members
        self._warn = warn
        self._on_bytes = on_bytes
        self._failure: BaseException | None = None
        reading, self._writing = os.pipe()
        self._reader = os.fdopen(reading, "rb", buffering=_BUFFER)
        self._thread = threading.Thread(target=self._produce, name="archive", daemon=True)

    def __enter__(self) -> TarGz:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The thread, if it still writes, gets a broken pipe and ends.
        self._reader.close()
        self._thread.join()

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer at the end; raises what went wrong in the making."""
        data = self._reader.read(size)
        if len(data) < size:
            self._thread.join()
            if self._failure:
                raise self._failure
        return data

    def _produce(self) -> None:
        try:
            with (
                os.fdopen(self._writing, "wb", buffering=_BUFFER) as sink,
                gzip.GzipFile(
                    filename="", mode="wb", fileobj=sink, compresslevel=_LEVEL, mtime=0
                ) as packed,
                tarfile.open(
                    fileobj=packed,
                    mode="w|",
                    format=tarfile.PAX_FORMAT,
                    encoding="utf-8",
                    errors="surrogateescape",
                    bufsize=_BUFFER,
                ) as tar,
            ):
                for member in self._members:
                    self._add(tar, member)
        except BrokenPipeError:
            return  # the reader has gone; it knows why
        except Exception as error:  # noqa: BLE001 - a thread's top: the reader raises it
            self._failure = error

    def _add(self, tar: tarfile.TarFile, member: Found) -> None:
        try:
            header = _header(member)
            descriptor = open_file(member.path) if member.is_file else None
        except OSError as error:
            self._warn(f"{printable(member.name)} is left out: {error.strerror}")
            return
        if descriptor is None:
            tar.addfile(header)
            return
        with os.fdopen(descriptor, "rb") as file:
            header.size = os.fstat(descriptor).st_size
            exact = _Exactly(file, header.size, self._on_bytes)
            tar.addfile(header, cast(BinaryIO, exact))
            if change := exact.change():
                self._warn(f"{printable(member.name)} {change} while it was read")


class _Exactly:
    """Reads a file that may change as one that has a fixed size."""

    def __init__(self, file: BinaryIO, size: int, on_bytes: Callable[[int], None]):
        self._file = file
        self._left = size
        self._on_bytes = on_bytes
        self._missing = 0

    def read(self, size: int, /) -> bytes:
        wanted = min(size, self._left)
        data = b"" if self._missing else self._fill(wanted)
        self._missing += wanted - len(data)
        self._left -= wanted
        self._on_bytes(len(data))
        return data + bytes(wanted - len(data))

    def _fill(self, wanted: int) -> bytes:
        try:
            return self._file.read(wanted)
        except OSError:
            # The header is written: what cannot be read becomes zeros, and a warning.
            return b""

    def change(self) -> str:
        """How the file differed from its size ("" if it did not)."""
        if self._missing:
            return f"lost {self._missing} bytes"
        try:
            return "grew" if self._file.read(1) else ""
        except OSError:
            return ""


def _header(member: Found) -> tarfile.TarInfo:
    header = tarfile.TarInfo("/".join(member.name))
    header.mode = stat.S_IMODE(member.mode)
    header.mtime = member.mtime
    if member.is_directory:
        header.type = tarfile.DIRTYPE
    elif member.is_link:
        header.type = tarfile.SYMTYPE
        header.linkname = str(member.path.readlink())
    return header
