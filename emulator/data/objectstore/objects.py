"""Objects of any S3 server, through few typed calls that many threads may use at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError

from emulator.data.objectstore.failures import Cancelled as Cancelled
from emulator.data.objectstore.failures import StoreError as StoreError
from emulator.data.objectstore.listing import PAGE_SIZE, Lister, NoListing
from emulator.data.objectstore.listing import ObjectInfo as ObjectInfo
from emulator.data.objectstore.uploading import CHUNK as CHUNK
from emulator.data.objectstore.uploading import Counted, Readable, part_size
from emulator.data.objectstore.uploading import ignore_bytes as ignore_bytes
from emulator.model.errors import SetupError

_TRIES = 5
_PATIENT_TRIES = 13
_LONGEST_PAUSE = 8.0
"""Pauses grow from 0.2 s: 5 tries take 6 s, 13 take a minute."""
_OWNED = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


class _Last(threading.local):
    began = 0.0
    """When this thread's last request began (monotonic seconds)."""


class _Pool(urllib3.PoolManager):
    """Knows how long a request has taken, its repetitions included."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.last = _Last()

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        self.last.began = time.monotonic()
        return super().urlopen(method, url, **options)


class _Retries(urllib3.Retry):
    """Does not repeat what a full disk has refused: each time takes the server half a minute."""

    def __init__(self, full: Callable[[], bool] = bool, **options: Any):
        super().__init__(**options)
        self._full = full

    def new(self, **options: Any) -> _Retries:
        return super().new(**{"full": self._full, **options})

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        return super().is_retry(method, status_code, has_retry_after) and not self._full()


def never() -> bool:
    """Nobody cancels."""
    return False


def no_key_problem(_: str) -> str:
    """Every key is kept as it is."""
    return ""


@dataclass(frozen=True)
class Entry:
    """What a folder of a bucket shows: an object, or a prefix that ends in a slash."""

    key: str
    size: int = 0
    modified: float | None = None
    """Epoch seconds; None for a prefix."""

    @property
    def is_prefix(self) -> bool:
        return self.modified is None


class ObjectStore:
    """One S3 server, with one set of credentials.

    Every method raises StoreError. Connection failures and 5xx answers are tried again a few
    times first, for about ten seconds.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        region: str = "us-east-1",
        trouble: Callable[[], str] = str,
        no_space: Callable[[], str] = str,
        tries: int = _TRIES,
        page_size: int = PAGE_SIZE,
        key_problem: Callable[[str], str] = no_key_problem,
    ):
        """`trouble` says what is wrong with the server ("" if nothing is known), `no_space`
        which disk of it is full.

        `tries` is how often a request is made again: see `patient`. `page_size` is how many
        keys the server gives at a time. `key_problem` says why the server would not keep an
        object under a key ("" if it does).

        Raises SetupError if `endpoint` is not the plain URL of a server.
        """
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
            raise SetupError(
                f"{endpoint!r} is not the URL of an S3 server.",
                "It has the form http://host:port.",
            )
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region
        self._trouble = trouble
        self._no_space = no_space
        self._page_size = page_size
        self.key_problem = key_problem
        retries = _Retries(
            full=lambda: bool(no_space()),
            total=tries,
            backoff_factor=0.2,
            backoff_max=_LONGEST_PAUSE,
            status_forcelist=(500, 502, 503, 504),
            raise_on_status=False,
        )
        self._pool = pool = _Pool(
            timeout=urllib3.Timeout(connect=5, read=30), maxsize=64, retries=retries
        )
        self._lister = Lister(pool, endpoint.rstrip("/"), access_key, secret_key, region)
        try:
            self._client = Minio(
                url.netloc,
                access_key=access_key,
                secret_key=secret_key,
                secure=url.scheme == "https",
                region=region,
                http_client=pool,
            )
        except ValueError as error:
            raise SetupError(f"{endpoint!r} cannot be used as an S3 server: {error}.") from error

    def patient(self) -> ObjectStore:
        """The same server, with each request made again for about a minute.

        For long uploads: a part that waits out a restart of the server saves all before it.
        """
        return ObjectStore(
            self.endpoint,
            self.access_key,
            self.secret_key,
            self.region,
            self._trouble,
            self._no_space,
            _PATIENT_TRIES,
            self._page_size,
            self.key_problem,
        )

    def bucket_exists(self, bucket: str) -> bool:
        with self._aws_words():
            return self._client.bucket_exists(bucket)

    def ensure_bucket(self, bucket: str) -> None:
        """Make the bucket unless it is there."""
        try:
            with self._aws_words():
                if not self._client.bucket_exists(bucket):
                    self._client.make_bucket(bucket)
        except StoreError as error:
            if error.code not in _OWNED:
                raise

    def buckets(self) -> list[tuple[str, float]]:
        """The name of every bucket, and when it was made (epoch seconds)."""
        with self._aws_words():
            return [
                (bucket.name, bucket.creation_date.timestamp() if bucket.creation_date else 0.0)
                for bucket in self._client.list_buckets()
            ]

    def folder(self, bucket: str, prefix: str, after: str = "") -> Iterator[Entry]:
        """What lies directly below a prefix, from the key behind `after` on."""
        with self._aws_words():
            found = self._client.list_objects(bucket, prefix=prefix, start_after=after or None)
            for one in found:
                name = one.object_name or ""
                if one.is_dir:
                    yield Entry(name)
                elif name != prefix:
                    modified = one.last_modified.timestamp() if one.last_modified else 0.0
                    yield Entry(name, one.size or 0, modified)

    def exists(self, bucket: str, prefix: str) -> bool:
        """Is there any key that starts with `prefix`?"""
        return next(self.list(bucket, prefix, page_size=1), None) is not None

    def list(self, bucket: str, prefix: str, page_size: int | None = None) -> Iterator[ObjectInfo]:
        """All objects whose keys start with `prefix`, a page at a time.

        In the server's own order: SeaweedFS goes by directory, S3 by the bytes of the key.
        """
        if self.key_problem(prefix):
            return  # there can be no such key, and the server would look for another one
        with self._aws_words():
            try:
                for page in self._lister.pages(bucket, prefix, page_size or self._page_size):
                    yield from page
            except NoListing:
                # The client library has the words for every way in which that fails.
                next(iter(self._client.list_objects(bucket, prefix=prefix)), None)
                raise self.trouble("InternalError", 500, f"no listing of {bucket}") from None

    def stat(self, bucket: str, key: str) -> ObjectInfo:
        """Size and ETag of one object."""
        with self._aws_words():
            found = self._client.stat_object(bucket, key)
            return ObjectInfo(key, found.size or 0, (found.etag or "").strip('"'))

    def encrypted_by_kms(self, bucket: str, key: str) -> bool:
        """Is the object's ETag no MD5 for this reason (API reference, Object)?"""
        with self._aws_words():
            headers = self._client.stat_object(bucket, key).metadata or {}
            return headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")

    def read(self, bucket: str, key: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `offset` on; an error ends it, nothing is tried again."""
        with self._aws_words(), self._opened(bucket, key, offset) as response:
            yield from response.stream(CHUNK, decode_content=False)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is no error (S3's own rule)."""
        with self._aws_words():
            self._client.remove_object(bucket, key)

    def upload_file(
        self, bucket: str, key: str, path: Path, on_bytes: Callable[[int], None] = ignore_bytes
    ) -> None:
        """Upload a file as it is while it is read. Raises OSError if it cannot be read."""
        with path.open("rb") as file:
            self.upload(bucket, key, file, path.stat().st_size, on_bytes)

    def upload(
        self,
        bucket: str,
        key: str,
        stream: Readable,
        bound: int = 0,
        on_bytes: Callable[[int], None] = ignore_bytes,
    ) -> None:
        """Upload all that `stream` gives, in parts once it is longer than one.

        Holds a few parts in memory, whatever the length. `bound` is the most bytes there can
        be, if known: S3 takes 10 000 parts, so very large objects need larger ones. When
        `stream` raises, no object is made and the error comes through.
        """
        if problem := self.key_problem(key):
            raise StoreError("InvalidArgument", 400, problem)
        with self._aws_words():
            self._client.put_object(
                bucket,
                key,
                cast(BinaryIO, Counted(stream, on_bytes)),
                length=-1,
                part_size=part_size(bound),
                # minio's own threads would outlive an error of the stream.
                num_parallel_uploads=1,
            )

    @contextmanager
    def _opened(self, bucket: str, key: str, offset: int = 0) -> Iterator[urllib3.BaseHTTPResponse]:
        response = self._client.get_object(bucket, key, offset=offset)
        try:
            yield response
        finally:
            # A response read to its end gives its connection back; a broken-off one is closed.
            response.close()
            response.release_conn()

    @contextmanager
    def _aws_words(self) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            status = error.response.status
            message = error.message or "no message"
            raise self._failed(error.code or "Unknown", status, message) from error
        except (InvalidResponseError, ServerError) as error:
            raise self._failed("InternalError", _status(error), str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            message = f"{self.endpoint} does not answer: {error}"
            raise self._failed("ServiceUnavailable", 503, message) from error
        except ValueError as error:
            # minio checks names before it asks the server.
            raise StoreError("InvalidRequest", 400, str(error)) from error

    def _failed(self, code: str, status: int, message: str) -> StoreError:
        """The error of the request that this thread made last."""
        return self.trouble(code, status, message, time.monotonic() - self._pool.last.began)

    def trouble(self, code: str, status: int, message: str, seconds: float = 0) -> StoreError:
        """The error of an answer, with what is known to be wrong with the server itself."""
        trouble = self._trouble() if status >= 500 else ""
        text = f"{message} [{trouble}]" if trouble else message
        error = StoreError(code, status, text, seconds)
        error.no_space = self._no_space() if status >= 500 else ""
        return error


def _status(error: InvalidResponseError | ServerError) -> int:
    found = getattr(error, "status_code", None) or getattr(error, "_code", None)
    return int(found or 500)
