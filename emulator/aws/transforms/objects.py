"""The object store as transform jobs use it: what it fails to do is tried again for a while."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import IO

from emulator.data.objectstore.listing import ObjectInfo
from emulator.data.objectstore.objects import ObjectStore
from emulator.data.objectstore.transfer import Downloader


class PatientObjects:
    """Outlasts a restart of the store. Its methods raise StoreError, and Cancelled after `end`."""

    def __init__(self, store: ObjectStore):
        self._store = store
        self._downloader = Downloader(store)
        self._ended = Event()

    def end(self) -> None:
        """The emulator ends: nothing is tried again."""
        self._ended.set()

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose keys start with `prefix`."""
        found = self._downloader.patience(self._ended.is_set).call(
            lambda: tuple(self._store.list(bucket, prefix))
        )
        return iter(found)

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        """An object, also over answers that break off."""
        info = self._downloader.patience(self._ended.is_set).call(
            lambda: self._store.stat(bucket, key)
        )
        yield from self._downloader.stream(bucket, info, self._ended.is_set)

    def upload(self, bucket: str, key: str, stream: IO[bytes]) -> None:
        """All of a file."""

        def put() -> None:
            stream.seek(0)
            self._store.upload(bucket, key, stream)

        self._downloader.patience(self._ended.is_set).call(put)
