"""model.tar.gz and output.tar.gz, from directories to a real object store."""

from __future__ import annotations

import gc
import os
import socket
import tarfile
import threading
import tracemalloc
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.data.objectstore.uploading import PART
from emulator.data.outputs.artifacts import OutputRoots, Uploaded, upload_outputs
from emulator.model.errors import ClientError, InternalServerError, disk_full
from emulator.model.scope import Scope
from emulator.model.workload import Output, S3Uri, WorkloadSpec
from emulator.resources.training import training_job

Roots = list[tuple[Path, Path]]


def job(bucket: str, **output: Any) -> WorkloadSpec:
    request = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/Role",
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out/", **output},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    }
    return training_job(request, Scope("123456789012", "us-east-1"))


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    made = [(tmp_path / host / "model", tmp_path / host / "data") for host in ("1", "2")]
    for pair in made:
        for directory in pair:
            directory.mkdir(parents=True)
    return made


def outputs(spec: WorkloadSpec, roots: Roots) -> list[OutputRoots]:
    return list(map(OutputRoots, spec.outputs, zip(*roots, strict=True)))


def upload(spec: WorkloadSpec, roots: Roots, store: ObjectStore) -> Uploaded:
    return upload_outputs("job", outputs(spec, roots), store, lambda *_: None, patience=0)


def content(store: ObjectStore, bucket: str, key: str) -> bytes:
    return b"".join(store.read(bucket, key))


def keys(store: ObjectStore, bucket: str) -> list[str]:
    return sorted(info.key for info in store.list(bucket, ""))


def fetch(store: ObjectStore, bucket: str, key: str, into: Path) -> tarfile.TarFile:
    into.write_bytes(content(store, bucket, key))
    return tarfile.open(into, "r:gz")


def test_hosts_are_merged_and_the_later_one_wins(
    object_store: ObjectStore, bucket: str, roots: Roots, tmp_path: Path
) -> None:
    (first, _), (second, data) = roots
    (first / "model.pth").write_text("of algo-1")
    (first / "rank0").write_text("0")
    (second / "model.pth").write_text("of algo-2")
    (second / "code").mkdir()
    (second / "code" / "inference.py").write_text("")
    (second / "latest").symlink_to("model.pth")
    (data / "predictions ü.csv").write_text("1")
    spec = job(bucket)
    seen: list[tuple[int, int]] = []
    uploaded = upload_outputs(
        "job", outputs(spec, roots), object_store, lambda *both: seen.append(both)
    )
    assert keys(object_store, bucket) == [
        "out/job/output/model.tar.gz",
        "out/job/output/output.tar.gz",
    ]
    assert spec.artifacts == f"s3://{bucket}/out/job/output/model.tar.gz"
    assert uploaded.warnings == ()
    assert seen[-1] == (11, 11)
    with fetch(object_store, bucket, uploaded.keys[0], tmp_path / "m.tar.gz") as tar:
        assert tar.getnames() == ["code", "code/inference.py", "latest", "model.pth", "rank0"]
        tar.extractall(tmp_path / "m", filter="data")
    assert (tmp_path / "m" / "latest").read_text() == "of algo-2"
    with fetch(object_store, bucket, uploaded.keys[1], tmp_path / "o.tar.gz") as tar:
        assert tar.getnames() == ["predictions ü.csv"]


def test_nothing_saved_makes_no_archive(
    object_store: ObjectStore, bucket: str, roots: Roots
) -> None:
    assert upload(job(bucket), roots, object_store) == Uploaded((), 0, ())
    assert keys(object_store, bucket) == []


def test_without_compression_each_file_is_an_object(
    object_store: ObjectStore, bucket: str, roots: Roots
) -> None:
    (first, data), (second, _) = roots
    (first / "sub dir").mkdir()
    (first / "sub dir" / "ü+%.bin").write_bytes(b"1")
    (first / "both").write_text("1")
    (second / "both").write_text("22")
    (second / "inside").symlink_to("both")
    (second / "outside").symlink_to("/etc/passwd")
    (second / "latest").symlink_to("sub dir")
    (second / "sub dir").mkdir()
    (second / os.fsdecode(b"\xff")).write_text("x")
    (data / "metrics.json").write_text("{}")
    spec = job(bucket, CompressionType="NONE")
    uploaded = upload(spec, roots, object_store)
    assert keys(object_store, bucket) == [
        "out/job/output/model/both",
        "out/job/output/model/inside",
        "out/job/output/model/sub dir/ü+%.bin",
        "out/job/output/output/metrics.json",
    ]
    assert content(object_store, bucket, "out/job/output/model/both") == b"22"
    assert content(object_store, bucket, "out/job/output/model/inside") == b"22"
    assert sorted(uploaded.warnings) == [
        "\\xff is left out: the name is not UTF-8",
        "latest is left out: it is a link to a directory",
        "outside is left out: the link leads elsewhere",
    ]


def test_links_that_lead_out_of_an_archive_are_told(
    object_store: ObjectStore, bucket: str, roots: Roots, tmp_path: Path
) -> None:
    (first, _), _ = roots
    (first / "step").mkdir()
    (first / "step" / "w.pt").write_text("w")
    for name, target in (
        ("latest", "step"),
        ("step/same", "w.pt"),
        ("model", "/tmp/elsewhere"),
        ("up", "../elsewhere"),
        ("absolute", "/opt/ml/model/step"),
    ):
        (first / name).symlink_to(target)
    uploaded = upload(job(bucket), roots, object_store)
    assert sorted(uploaded.warnings) == [
        f"{name} is packed as a link to {target}, which is not in the archive"
        for name, target in (
            ("absolute", "/opt/ml/model/step"),
            ("model", "/tmp/elsewhere"),
            ("up", "../elsewhere"),
        )
    ]
    with fetch(object_store, bucket, uploaded.keys[0], tmp_path / "m.tar.gz") as tar:
        assert tar.getmember("model").linkname == "/tmp/elsewhere"


def test_a_bucket_that_is_not_there(object_store: ObjectStore, roots: Roots) -> None:
    (roots[0][0] / "model.pth").write_text("x")
    with pytest.raises(ClientError) as caught:
        upload(job("not-there-at-all"), roots, object_store)
    assert str(caught.value).startswith(
        "ClientError: Artifact upload failed:Error 7: NoSuchBucket (404): "
    )


def test_credentials_that_may_not(object_store: ObjectStore, bucket: str, roots: Roots) -> None:
    (roots[0][0] / "model.pth").write_text("x")
    stranger = ObjectStore(object_store.endpoint, "stranger", "secret")
    with pytest.raises(ClientError, match=r"Artifact upload failed:Error 7: .* \(403\): "):
        upload(job(bucket), roots, stranger)


def test_a_store_that_is_gone(roots: Roots) -> None:
    (roots[0][0] / "model.pth").write_text("x")
    with pytest.raises(InternalServerError, match="Artifact upload failed:ServiceUnavailable"):
        upload(job("bucket"), roots, ObjectStore("http://127.0.0.1:1", "k", "s"))


def test_a_store_that_is_back_after_a_while(
    object_store: ObjectStore, bucket: str, roots: Roots, tmp_path: Path
) -> None:
    (roots[0][0] / "model.pth").write_bytes(os.urandom(1 << 20))

    class Restarted(ObjectStore):
        """Gone when it had read everything, the first two times."""

        failures = 2

        def upload(self, bucket: str, key: str, stream: Any, *rest: Any) -> None:
            if self.failures:
                self.failures -= 1
                while stream.read(1 << 20):
                    pass
                raise StoreError("ServiceUnavailable", 503, "it is restarted")
            super().upload(bucket, key, stream, *rest)

    store = Restarted(object_store.endpoint, "emulator", "emulator-secret")
    seen: list[tuple[int, int]] = []
    uploaded = upload_outputs(
        "job", outputs(job(bucket), roots), store, lambda *both: seen.append(both)
    )
    assert uploaded.bytes == 1 << 20
    assert (0, 1 << 20) in seen[1:], "what was lost does not count"
    with fetch(object_store, bucket, uploaded.keys[0], tmp_path / "m.tar.gz") as tar:
        assert tar.getnames() == ["model.pth"]


class Relay:
    """Passes TCP connections on to a server, and can be away like a server that restarts."""

    def __init__(self, port: int):
        self._target = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = 0
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def leave(self) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []
        # Kept, so that nobody takes it meanwhile; where nothing listens, nobody gets through.
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))

    def close(self) -> None:
        self.leave()
        self._listener.close()

    def come_back(self) -> None:
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
                self.passed += len(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def test_a_store_that_goes_away_between_two_parts_costs_only_the_wait(
    object_store: ObjectStore, bucket: str, roots: Roots, tmp_path: Path
) -> None:
    relay = Relay(int(object_store.endpoint.rpartition(":")[2]))
    store = ObjectStore(f"http://127.0.0.1:{relay.port}", "emulator", "emulator-secret").patient()
    size = 60 << 20
    (roots[0][0] / "model.pth").write_bytes(os.urandom(size))
    tries: list[int] = []
    away = threading.Event()

    def progress(done: int, total: int) -> None:
        tries.append(done)
        if relay.passed > 2 * PART and not away.is_set():
            away.set()
            relay.leave()
            threading.Timer(3, relay.come_back).start()

    uploaded = upload_outputs("job", outputs(job(bucket), roots), store, progress)
    relay.close()
    assert away.is_set()
    assert tries == sorted(tries), "nothing was begun anew"
    with fetch(object_store, bucket, uploaded.keys[0], tmp_path / "m.tar.gz") as tar:
        assert tar.getmember("model.pth").size == size


class Full(BaseHTTPRequestHandler):
    """A store whose disk is full, as SeaweedFS answers then."""

    asked: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
        self.send_response(500)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


def test_a_store_with_a_full_disk_is_asked_once_an_attempt_and_named(roots: Roots) -> None:
    (roots[0][0] / "model.pth").write_bytes(b"weights")
    full = "No space left on device: /state/objects (0 MiB left)"
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = ObjectStore(url, "key", "secret", trouble=lambda: full, no_space=lambda: full)
        with pytest.raises(InternalServerError) as error:
            upload(job("bucket"), roots, store.patient())
        server.shutdown()
    assert len(Full.asked) == 1
    assert full in str(error.value)
    assert disk_full(error.value, "elsewhere") == full


def test_a_large_model_takes_little_memory_and_no_disk(
    object_store: ObjectStore, bucket: str, roots: Roots, tmp_path: Path
) -> None:
    block = os.urandom(1 << 20)
    with (roots[0][0] / "model.pth").open("wb") as file:
        for _ in range(100):
            file.write(block)
    gc.collect()
    tracemalloc.start()
    try:
        uploaded = upload(job(bucket), roots, object_store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert uploaded.bytes == 100 << 20
    assert peak < 6 * PART
    with fetch(object_store, bucket, uploaded.keys[0], tmp_path / "m.tar.gz") as tar:
        assert tar.getmember("model.pth").size == 100 << 20
        content = tar.extractfile("model.pth")
        assert content
        assert all(content.read(1 << 20) == block for _ in range(100))


def test_nothing_behind_a_link_on_the_way_to_an_output_is_uploaded(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "home" / "b").mkdir(parents=True)
    (tmp_path / "home" / "b" / "key").write_text("secret")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "a").symlink_to(tmp_path / "home")
    output = Output("out", "/opt/ml/processing/a/b", S3Uri(bucket, "out"))
    roots = OutputRoots(output, [tmp_path / "volume/a/b"], depth=2)
    uploaded = upload_outputs("job", [roots], object_store, lambda *_: None, patience=0)
    assert uploaded.keys == ()
    assert uploaded.warnings
    assert keys(object_store, bucket) == []
