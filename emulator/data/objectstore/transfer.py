"""Objects to files: checked, taken up again where they broke off, many at a time."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from io import RawIOBase
from pathlib import Path
from typing import Generic, TypeVar

from emulator.data.objectstore.objects import (
    CHUNK,
    Cancelled,
    ObjectInfo,
    ObjectStore,
    StoreError,
    ignore_bytes,
    never,
)
from emulator.data.objectstore.reader import ObjectReader

THREADS = 16
PATIENCE = 120.0
"""Seconds that a store may be away before what needs it fails."""
_LONGEST_PAUSE = 5.0
_LOOK = 0.2
_KEPT = 8 << 20
"""Bytes from which on the beginning of an object is kept for another try."""
_RESTARTS = 2
"""How often a large object whose checksum is wrong is fetched anew: every time its bytes come,
so that patience alone would never end."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_T = TypeVar("_T")
log = logging.getLogger(__name__)


class Patience:
    """Tries again what the store fails to do, for as long as it gets nowhere."""

    def __init__(
        self,
        cancelled: Callable[[], bool] = never,
        seconds: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._cancelled = cancelled
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._since: float | None = None
        self._pause = _LOOK

    def progress(self) -> None:
        """Something came: the next failure is a new one."""
        self._since, self._pause = None, _LOOK

    def wait(self, error: StoreError) -> None:
        """Wait a little after a failure; raises `error` when waiting is of no use, or Cancelled."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        if not error.transient or now - self._since >= self._seconds:
            raise error
        log.info("again in %.1f s: %s", self._pause, error)
        until = now + self._pause
        while (left := until - self._clock()) > 0:
            if self._cancelled():
                raise Cancelled("waiting for the object store") from error
            self._sleep(min(left, _LOOK))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def call(self, action: Callable[[], _T]) -> _T:
        """What `action` gives, once it does."""
        while True:
            try:
                return action()
            except StoreError as error:
                self.wait(error)


class Downloader:
    """Brings objects to files; many threads may use it at once."""

    def __init__(self, store: ObjectStore, patience: float = PATIENCE):
        self.store = store
        self.reader = ObjectReader(store)
        self._patience = patience

    def patience(self, cancelled: Callable[[], bool]) -> Patience:
        return Patience(cancelled, self._patience)

    def download(
        self,
        bucket: str,
        info: ObjectInfo,
        target: Path,
        on_bytes: Callable[[int], None] = ignore_bytes,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Make `target`, whose directory exists, the object that `info` tells of.

        It appears under its name only when it is complete and its size and MD5 (where the
        ETag is one) are right. Until then it is `<target>.part`, which nobody else may
        write; what a large one has is kept and taken up by the next call, also after a crash.
        `on_bytes` gets what was added, less what is thrown away. Raises StoreError when the
        store is away for too long or refuses, Cancelled, and OSError if the disk fails.
        """
        if info.size <= CHUNK:
            self._download_small(bucket, info, target, on_bytes, cancelled)
            return
        partial = target.with_name(f"{target.name}.part")
        transfer = _Transfer(self.reader, bucket, info, partial, on_bytes, cancelled)
        patience = self.patience(cancelled)
        try:
            while True:
                try:
                    transfer.go_on(patience)
                    self._verify(bucket, info, transfer)
                    break
                except StoreError as error:
                    if transfer.restarts > _RESTARTS:
                        raise
                    patience.wait(error)
            partial.rename(target)
        except BaseException:
            if info.size < _KEPT:
                partial.unlink(missing_ok=True)
            raise

    def _download_small(
        self,
        bucket: str,
        info: ObjectInfo,
        target: Path,
        on_bytes: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """In one piece: what is done for each of very many objects decides how fast they come."""
        if cancelled():
            raise Cancelled(f"download of s3://{bucket}/{info.key}")
        data = self.fetch(bucket, info, cancelled)
        try:
            # Checked and written at once: it is complete as soon as it has its size.
            with target.open("wb", buffering=0) as file:
                _write(file, data)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        on_bytes(info.size)

    def _checked(self, bucket: str, info: ObjectInfo) -> bytes:
        data = b"".join(self.reader.read(bucket, info))
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        wrong = _mismatch(info, len(data), digest)
        if wrong and not (len(data) == info.size and self.store.encrypted_by_kms(bucket, info.key)):
            raise StoreError("IncompleteBody", 500, f"s3://{bucket}/{info.key}: {wrong}")
        return data

    def fetch(self, bucket: str, info: ObjectInfo, cancelled: Callable[[], bool] = never) -> bytes:
        """A small object, checked as `download` does it. Raises StoreError and Cancelled."""
        return self.patience(cancelled).call(lambda: self._checked(bucket, info))

    def stream(
        self, bucket: str, info: ObjectInfo, cancelled: Callable[[], bool] = never
    ) -> Iterator[bytes]:
        """An object from its first byte to its last, also over answers that break off.

        Raises StoreError and Cancelled as `download`.
        """
        patience = self.patience(cancelled)
        done = 0
        while done < info.size:
            try:
                for piece in self.reader.read(bucket, info, done):
                    done += len(piece)
                    yield piece
                    patience.progress()
                if done < info.size:
                    raise StoreError("IncompleteBody", 500, f"{done} of {info.size} bytes came")
            except StoreError as error:
                patience.wait(error)

    def _verify(self, bucket: str, info: ObjectInfo, transfer: _Transfer) -> None:
        wrong = transfer.mismatch()
        if wrong and not (
            transfer.size == info.size and self.store.encrypted_by_kms(bucket, info.key)
        ):
            transfer.restart()
            raise StoreError("IncompleteBody", 500, f"s3://{bucket}/{info.key}: {wrong}")


class _Transfer:
    """One object on its way into a file, over as many answers as it takes."""

    def __init__(
        self,
        reader: ObjectReader,
        bucket: str,
        info: ObjectInfo,
        partial: Path,
        on_bytes: Callable[[int], None],
        cancelled: Callable[[], bool],
    ):
        self._reader = reader
        self._bucket = bucket
        self._info = info
        self._partial = partial
        self._on_bytes = on_bytes
        self._cancelled = cancelled
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self.restarts = 0
        if info.size >= _KEPT and partial.exists():
            self._take_up()
        else:
            partial.unlink(missing_ok=True)

    def go_on(self, patience: Patience) -> None:
        """Fetch what is missing. Raises StoreError with everything kept that came."""
        with self._partial.open("ab", buffering=0) as file:
            for piece in self._reader.read(self._bucket, self._info, self.size):
                if self._cancelled():
                    raise Cancelled(f"download of s3://{self._bucket}/{self._info.key}")
                _write(file, piece)
                self._digest.update(piece)
                self.size += len(piece)
                self._on_bytes(len(piece))
                patience.progress()

    def mismatch(self) -> str:
        """What is wrong with the whole of it ("" if nothing is)."""
        return _mismatch(self._info, self.size, self._digest.hexdigest())

    def restart(self) -> None:
        self._partial.unlink()
        self.restarts += 1
        self._on_bytes(-self.size)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def _take_up(self) -> None:
        with self._partial.open("rb") as file:
            while piece := file.read(1 << 20):
                self._digest.update(piece)
                self.size += len(piece)
        self._on_bytes(self.size)
        if self.size > self._info.size:
            self.restart()


def _write(file: RawIOBase, data: bytes) -> None:
    """All of it: a disk that is nearly full takes a part, and refuses only the rest."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _mismatch(info: ObjectInfo, size: int, md5: str) -> str:
    if size != info.size:
        return f"{size} of {info.size} bytes came"
    if _MD5.fullmatch(info.etag) and info.etag != md5:
        return f"the content's MD5 is {md5}, not {info.etag}"
    return ""


def in_parallel(
    work: Callable[[_T, Callable[[], bool]], None],
    items: Iterable[_T],
    cancelled: Callable[[], bool] = never,
    threads: int = THREADS,
) -> None:
    """Do `work` with every item; the first failure ends all and is raised.

    `work` is also told how to find out that it shall end. Raises Cancelled soon after
    `cancelled()` turned true.
    """
    team = _Team(work, items, cancelled)
    members = [threading.Thread(target=team.run, daemon=True) for _ in range(threads)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    # Those that only stopped because of the first failure say Cancelled.
    for error in team.failures:
        if not isinstance(error, Cancelled):
            raise error
    if team.stopping():
        raise Cancelled("the work on many objects")


class _Team(Generic[_T]):
    """Threads that take items from one list."""

    def __init__(
        self,
        work: Callable[[_T, Callable[[], bool]], None],
        items: Iterable[_T],
        cancelled: Callable[[], bool],
    ):
        self._work = work
        self._left = iter(items)
        self._lock = threading.Lock()
        self._cancelled = cancelled
        self.failures: list[BaseException] = []

    def stopping(self) -> bool:
        return bool(self.failures) or self._cancelled()

    def run(self) -> None:
        try:
            while not self.stopping():
                with self._lock:
                    item = next(self._left)
                self._work(item, self.stopping)
        except StopIteration:
            return
        except BaseException as error:  # noqa: BLE001 - the top of a thread; raised by the caller
            self.failures.append(error)
