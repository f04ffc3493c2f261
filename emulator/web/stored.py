"""The buckets of the object store and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from emulator.data.objectstore.objects import ObjectStore
from emulator.web import models

PAGE = 200
"""Entries of a folder in one answer."""
LOOK_BYTES = 64 * 1024
"""Shown of an object."""


class Stored:
    """Raises StoreError where the store does not do what it is asked."""

    def __init__(self, objects: ObjectStore):
        self._objects = objects

    def buckets(self) -> list[models.Bucket]:
        return [models.Bucket(name=name, created=made) for name, made in self._objects.buckets()]

    def folder(self, bucket: str, prefix: str, after: str = "") -> models.Folder:
        """What lies directly below a prefix."""
        found = list(islice(self._objects.folder(bucket, prefix, after), PAGE + 1))
        return models.Folder(
            bucket=bucket,
            prefix=prefix,
            entries=[
                models.StoredEntry(
                    name=one.key[len(prefix) :],
                    key=one.key,
                    prefix=one.is_prefix,
                    size=one.size,
                    modified=one.modified,
                )
                for one in found[:PAGE]
            ],
            next=found[PAGE - 1].key if len(found) > PAGE else None,
        )

    def size(self, bucket: str, key: str) -> int:
        return self._objects.stat(bucket, key).size

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        return self._objects.read(bucket, key)

    def beginning(self, bucket: str, key: str) -> bytes:
        """The first LOOK_BYTES of an object."""
        found = bytearray()
        for piece in self._objects.read(bucket, key):
            found += piece
            if len(found) >= LOOK_BYTES:
                break
        return bytes(found[:LOOK_BYTES])

    def upload(self, bucket: str, key: str, file: BinaryIO, size: int) -> None:
        self._objects.upload(bucket, key, file, size)
