"""A tar.gz that is made while it is read: nothing of it is ever on disk or whole in memory."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import RawIOBase
from queue import Full, Queue
from threading import Event, Thread
from types import TracebackType

from isal import isal_zlib

from emulator.data.outputs.tree import Found, Warn, link_target, open_file, printable

LEVEL = 1
"""ISA-L's; on weights it packs as well as gzip's own default (docs/adr/0010-compression.md)."""
BLOCK = 1 << 20
"""Bytes that one thread packs at a time, at least; at most twice as many."""
_MOST_THREADS = 8
"""More than any store here takes in."""
_AHEAD = 16
"""Packed blocks that may wait while the reader sends others."""
_LOOK_SECONDS = 0.1

# One member, no name, no time, system unknown: the same tree gives the same bytes.
_GZIP_START = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_DEFLATE_END = b"\x03\x00"
_TAR_END = bytes(2 * tarfile.BLOCKSIZE)


class TarGz:
    """The bytes of an archive, made by threads of its own not much further than they are read.

    The same tree gives the same bytes: order, metadata and where blocks begin do not depend
    on the machine, and owners are left out. A file that shrinks or grows meanwhile is padded
    or cut to the size its header tells, one that went is left out, both with a warning: the
    archive itself is always whole. Leaving the `with` block ends the threads.
    """

    def __init__(self, members: Sequence[Found], warn: Warn, on_bytes: Callable[[int], None]):
        self._members = members
        self._warn = warn
        self._on_bytes = on_bytes
        self._failure: BaseException | None = None
        self._left = Event()
        workers = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="gzip")
        self._packed: Queue[Future[bytes] | None] = Queue(_AHEAD + 2 * workers)
        self._rest = memoryview(_GZIP_START)
        self._over = False
        self._thread = Thread(target=self._produce, name="archive", daemon=True)

    def __enter__(self) -> TarGz:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer at the end; raises what went wrong in the making."""
        pieces = []
        missing = size
        while missing and (self._rest or self._next()):
            pieces.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _next(self) -> bool:
        """Have bytes in `_rest`; False at the end."""
        if self._over:
            return False
        packed = self._packed.get()
        if packed is None:
            self._over = True
            if self._failure:
                raise self._failure
            return False
        self._rest = memoryview(packed.result())
        return True

    def _produce(self) -> None:
        try:
            checksum, length = 0, 0
            for block in _blocks(self._tar()):
                checksum = isal_zlib.crc32(block, checksum)
                length += len(block)
                self._put(self._pool.submit(_pack, block))
            end = _DEFLATE_END + struct.pack("<II", checksum, length & 0xFFFFFFFF)
            self._put(self._pool.submit(bytes, end))
        except _ReaderLeft:
            return
        except Exception as error:  # noqa: BLE001 - a thread's top: the reader raises it
            self._failure = error
        try:
            self._put(None)
        except _ReaderLeft:
            return

    def _put(self, packed: Future[bytes] | None) -> None:
        while not self._left.is_set():
            try:
                self._packed.put(packed, timeout=_LOOK_SECONDS)
            except Full:
                continue
            return
        raise _ReaderLeft

    def _tar(self) -> Iterator[bytes]:
        for member in self._members:
            yield from self._member(member)
        yield _TAR_END

    def _member(self, member: Found) -> Iterator[bytes]:
        try:
            header = _header(member)
            descriptor = open_file(member) if member.is_file else None
        except OSError as error:
            self._warn(f"{printable(member.name)} is left out: {error.strerror}")
            return
        if descriptor is None:
            yield _bytes_of(header)
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            header.size = os.fstat(descriptor).st_size
            yield _bytes_of(header)
            exact = _Exactly(file, header.size, self._on_bytes)
            yield from exact
            yield bytes(-header.size % tarfile.BLOCKSIZE)
            if change := exact.change():
                self._warn(f"{printable(member.name)} {change} while it was read")


class _ReaderLeft(Exception):
    """Nobody wants the rest of the archive."""


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least BLOCK, but for the last one."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _pack(block: bytes) -> bytes:
    """One part of a deflate stream, which ends on a byte so that parts can be put together."""
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return packer.compress(block) + packer.flush(isal_zlib.Z_SYNC_FLUSH)


class _Exactly:
    """The content of a file that may change, as one that has a fixed size."""

    def __init__(self, file: RawIOBase, size: int, on_bytes: Callable[[int], None]):
        self._file = file
        self._left = size
        self._on_bytes = on_bytes
        self._missing = 0

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            wanted = min(BLOCK, self._left)
            data = b"" if self._missing else self._fill(wanted)
            self._missing += wanted - len(data)
            self._left -= wanted
            self._on_bytes(len(data))
            yield data if len(data) == wanted else data + bytes(wanted - len(data))

    def _fill(self, wanted: int) -> bytes:
        """As much as there is; a raw file may give it in several pieces."""
        pieces = []
        try:
            while wanted and (piece := self._file.read(wanted)):
                pieces.append(piece)
                wanted -= len(piece)
        except OSError:
            # The header is written: what cannot be read becomes zeros, and a warning.
            return b"".join(pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

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
        header.linkname = link_target(member)
    return header


def _bytes_of(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
