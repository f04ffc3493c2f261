"""Fast reads of many objects: a compiled S3 client under Python threads.

Measured on two busy cores beside the embedded store, each object checked by its MD5: 32 of
16 MB and 5 000 of 10 KB come at about the rate of s5cmd. Threads over a client in Python take
half as long again for the small ones: they wait for one another's interpreter lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from threading import Lock

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from emulator.data.objectstore.objects import CHUNK, ObjectInfo, ObjectStore, StoreError

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_STATUS = re.compile(r"status code: (\d{3})")
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f]")
"""Characters of a key that the compiled client refuses, although S3 allows them."""
_CLIENT_ERRORS = (BaseError, OSError, ValueError)
_DAY = timedelta(days=1)


class ObjectReader:
    """Reads objects of one S3 server; many threads may use it at once.

    Every method raises StoreError, without trying again: whoever reads knows how far it got.
    """

    def __init__(self, store: ObjectStore):
        self._store = store
        self._buckets: dict[str, S3Store] = {}
        self._lock = Lock()

    def head(self, bucket: str, key: str) -> ObjectInfo:
        """Size and ETag of one object."""
        if _UNREADABLE.search(key):
            return self._store.stat(bucket, key)
        try:
            meta = obstore.head(self._bucket(bucket), key)
        except _CLIENT_ERRORS as error:
            raise self._error(bucket, key, error) from error
        return ObjectInfo(key, meta["size"], (meta["e_tag"] or "").strip('"'))

    def read(self, bucket: str, info: ObjectInfo, offset: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `offset` on, in pieces of about a megabyte.

        Raises StoreError (412) when the object is no longer the one that `info` tells of.
        """
        if info.size == offset:
            return
        if _UNREADABLE.search(info.key):
            yield from self._store.read(bucket, info.key, offset)
            return
        try:
            found = (
                obstore.get(self._bucket(bucket), info.key, options={"range": {"offset": offset}})
                if offset
                else obstore.get(self._bucket(bucket), info.key)
            )
            etag = (found.meta["e_tag"] or "").strip('"')
            if info.etag and etag and etag != info.etag:
                raise changed(bucket, info.key)
            if info.size - offset <= CHUNK:
                yield memoryview(found.bytes())  # type: ignore[misc]
                return
            for piece in found.stream(min_chunk_size=CHUNK):
                yield memoryview(piece)  # type: ignore[misc]
        except _CLIENT_ERRORS as error:
            raise self._error(bucket, info.key, error) from error

    def _bucket(self, bucket: str) -> S3Store:
        with self._lock:
            if bucket not in self._buckets:
                store = self._store
                self._buckets[bucket] = S3Store(
                    bucket,
                    endpoint=store.endpoint,
                    access_key_id=store.access_key,
                    secret_access_key=store.secret_key,
                    region=store.region,
                    virtual_hosted_style_request=False,
                    client_options={
                        "allow_http": True,
                        "connect_timeout": timedelta(seconds=5),
                        # A large object may take its time, but it must go on.
                        "read_timeout": timedelta(seconds=30),
                        "timeout": _DAY,
                    },
                    retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
                )
            return self._buckets[bucket]

    def _error(self, bucket: str, key: str, error: Exception) -> StoreError:
        text = str(error)
        if isinstance(error, ValueError):
            # A name that it does not take at all.
            return StoreError("InvalidRequest", 400, text)
        status = _STATUS.search(text)
        code, message = _CODE.search(text), _MESSAGE.search(text)
        where = f"s3://{bucket}/{key}"
        if status is None and not isinstance(error, FileNotFoundError):
            plain = text.partition("\n")[0]
            return self._store.trouble("ServiceUnavailable", 503, f"{where}: {plain}")
        number = int(status[1]) if status else 404
        name = code[1] if code else ("NoSuchKey" if number == 404 else f"HTTP{number}")
        return self._store.trouble(name, number, message[1] if message else where)


def changed(bucket: str, key: str) -> StoreError:
    """Another object has taken the place of the one that was listed."""
    return StoreError(
        "PreconditionFailed", 412, f"s3://{bucket}/{key} was changed while it was downloaded"
    )
