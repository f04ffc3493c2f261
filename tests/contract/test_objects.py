"""What the rest of the emulator expects of an S3 server, held against a real one."""

from __future__ import annotations

import gc
import gzip
import io
import os
import socket
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from minio import Minio

from emulator.data.objectstore.embedded import PAGE_SIZE
from emulator.data.objectstore.objects import ObjectInfo, ObjectStore, StoreError
from emulator.data.objectstore.transfer import Downloader
from emulator.data.objectstore.uploading import PART, part_size
from emulator.model.errors import SetupError

ODD_KEYS = [
    "ü/ñ ö.txt",
    "a b/c+d",
    "100%25/é?&=#.csv",
    "emoji-😀",
    "x" * 200 + "/y",
    "'\"<>&",
    "~!@$^*()",
]


def put(store: ObjectStore, bucket: str, key: str, data: bytes) -> None:
    store.upload(bucket, key, io.BytesIO(data), len(data))


def raw_client(store: ObjectStore) -> Minio:
    host = store.endpoint.removeprefix("http://")
    return Minio(host, "emulator", "emulator-secret", secure=False, region="us-east-1")


@pytest.mark.parametrize("key", ODD_KEYS)
def test_any_key_comes_back_as_it_went(
    object_store: ObjectStore, bucket: str, tmp_path: Path, key: str
) -> None:
    data = os.urandom(1000)
    put(object_store, bucket, key, data)
    (info,) = object_store.list(bucket, key)
    assert (info.key, info.size) == (key, 1000)
    assert b"".join(object_store.read(bucket, key)) == data
    Downloader(object_store).download(bucket, info, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_listing_goes_on_over_pages(object_store: ObjectStore, bucket: str) -> None:
    keys = {f"p/{number % 7}/{number:05}" for number in range(2100)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: put(object_store, bucket, key, b"x"), keys))
    listed = list(object_store.list(bucket, "p/"))
    assert len(listed) == 2100
    assert {info.key for info in listed} == keys
    assert all(isinstance(info, ObjectInfo) for info in listed)
    for size in (1, 700, PAGE_SIZE):
        some = object_store.list(bucket, "p/0/", size)
        assert {info.key for info in some} == {key for key in keys if key.startswith("p/0/")}


def test_exists_goes_by_the_beginning_of_a_key(object_store: ObjectStore, bucket: str) -> None:
    put(object_store, bucket, "data/train/x", b"x")
    assert object_store.exists(bucket, "data/tr")
    assert object_store.exists(bucket, "")
    assert not object_store.exists(bucket, "data/test")


def test_buckets(object_store: ObjectStore, bucket: str) -> None:
    object_store.ensure_bucket(bucket)
    assert object_store.bucket_exists(bucket)
    assert not object_store.bucket_exists("no-such-bucket")


def test_reads_begin_where_they_are_told_to(object_store: ObjectStore, bucket: str) -> None:
    put(object_store, bucket, "note", b"0123456789")
    assert b"".join(object_store.read(bucket, "note", 4)) == b"456789"
    assert object_store.stat(bucket, "note").size == 10
    assert not object_store.encrypted_by_kms(bucket, "note")


def test_errors_speak_as_s3(object_store: ObjectStore, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^NoSuchKey \(404\): ") as caught:
        list(object_store.read(bucket, "none"))
    assert not caught.value.transient
    with pytest.raises(StoreError, match=r"^NoSuchBucket \(404\): "):
        put(object_store, "no-such-bucket", "key", b"x")
    with pytest.raises(StoreError, match=r"^NoSuchBucket \(404\): "):
        object_store.exists("no-such-bucket", "")
    with pytest.raises(StoreError, match=r"^InvalidRequest \(400\): "):
        object_store.bucket_exists("No_Bucket_Name!")
    assert list(tmp_path.iterdir()) == []


def test_wrong_credentials(object_store: ObjectStore, bucket: str) -> None:
    stranger = ObjectStore(object_store.endpoint, "emulator", "wrong")
    with pytest.raises(StoreError, match=r"^(SignatureDoesNotMatch|AccessDenied) \(403\): "):
        stranger.exists(bucket, "")


def test_a_server_that_is_not_there_says_what_is_wrong() -> None:
    store = ObjectStore("http://127.0.0.1:1", "k", "s", trouble=lambda: "it was never started")
    with pytest.raises(StoreError, match=r"^ServiceUnavailable \(503\): .*\[it was never started"):
        store.exists("bucket", "")


@pytest.mark.parametrize("url", ["", "127.0.0.1:9000", "ftp://x", "http://h/path", "http://"])
def test_an_endpoint_has_to_be_a_plain_url(url: str) -> None:
    with pytest.raises(SetupError):
        ObjectStore(url, "k", "s")


def test_a_stored_encoding_is_not_undone(object_store: ObjectStore, bucket: str) -> None:
    data = gzip.compress(b"text" * 100)
    raw_client(object_store).put_object(
        bucket, "t.gz", io.BytesIO(data), len(data), metadata={"Content-Encoding": "gzip"}
    )
    assert b"".join(object_store.read(bucket, "t.gz")) == data
    (info,) = object_store.list(bucket, "t.gz")
    assert Downloader(object_store).fetch(bucket, info) == data


def test_a_failing_stream_leaves_no_object(object_store: ObjectStore, bucket: str) -> None:
    class Broken:
        def __init__(self) -> None:
            self.left = PART + 10

        def read(self, size: int, /) -> bytes:
            if not self.left:
                raise OSError("the disk broke")
            step = min(size, self.left)
            self.left -= step
            return bytes(step)

    threads = threading.active_count()
    with pytest.raises(OSError, match="the disk broke"):
        object_store.upload(bucket, "broken", Broken())
    assert not object_store.exists(bucket, "broken")
    assert threading.active_count() == threads


def test_a_download_whose_server_breaks_off_goes_on(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    """A real server behind a listener that cuts the first connection in the middle."""
    data = os.urandom(5 << 20)
    put(object_store, bucket, "cut", data)
    with CuttingProxy(object_store.endpoint, cuts=1, after=1 << 20) as url:
        store = ObjectStore(url, "emulator", "emulator-secret")
        info = object_store.stat(bucket, "cut")
        counts: list[int] = []
        Downloader(store).download(bucket, info, tmp_path / "cut", counts.append)
    assert (tmp_path / "cut").read_bytes() == data
    assert min(counts) > 0
    assert sum(counts) == len(data)


def test_large_objects_take_little_memory(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    size = 300 << 20
    with (tmp_path / "big").open("wb") as file:
        file.truncate(size)
    gc.collect()
    tracemalloc.start()
    try:
        object_store.upload_file(bucket, "big", tmp_path / "big")
        _, uploading = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        (info,) = object_store.list(bucket, "big")
        Downloader(object_store).download(bucket, info, tmp_path / "back")
        _, downloading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert uploading < 6 * PART
    assert downloading < PART
    assert info.size == size == (tmp_path / "back").stat().st_size
    assert info.etag.endswith(f"-{-(-size // PART)}")


@pytest.mark.parametrize(
    ("bound", "part"),
    [(0, 16 << 20), (160_000 << 20, 16 << 20), ((160_000 << 20) + 1, 17 << 20)],
)
def test_parts_grow_with_the_object(bound: int, part: int) -> None:
    assert part_size(bound) == part


class CuttingProxy:
    """Passes TCP on, and cuts the first `cuts` large answers after `after` bytes."""

    def __init__(self, endpoint: str, cuts: int, after: int):
        host, port = endpoint.removeprefix("http://").split(":")
        self._server = socket.create_server(("127.0.0.1", 0))
        self._target = (host, int(port))
        self._cuts = cuts
        self._after = after

    def __enter__(self) -> str:
        threading.Thread(target=self._accept, daemon=True).start()
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            target = socket.create_connection(self._target)
            threading.Thread(target=self._pass, args=(client, target, None), daemon=True).start()
            threading.Thread(
                target=self._pass, args=(target, client, self._after), daemon=True
            ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                passed += len(data)
                if limit and passed > limit and self._cuts:
                    self._cuts -= 1
                    break
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
