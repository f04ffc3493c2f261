"""What is particular to an input mode, held against a real object store."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from channel_harness import HOSTS, Stager

from emulator.data.inputs import check_input
from emulator.data.inputs.base import StagedChannel
from emulator.model.errors import ClientError, ValidationError
from emulator.model.workload import ChannelSpec
from emulator.resources.training.job import channel_spec

ONE = HOSTS[:1]
PATIENCE = 60.0


def pipe(stager: Stager, epoch: int, host: str = "algo-1") -> Path:
    path = stager.directories[host] / f"train_{epoch}"
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.005)
    return path


def read(stager: Stager, epoch: int, host: str = "algo-1") -> bytes:
    return pipe(stager, epoch, host).read_bytes()


def records(data: bytes) -> list[bytes]:
    found = []
    while data:
        _, size = struct.unpack("<II", data[:8])
        found.append(data[8 : 8 + size])
        data = data[8 + size + -size % 4 :]
    return found


def test_unchanged_objects_are_never_fetched_again(
    stager: Stager, monkeypatch: pytest.MonkeyPatch
) -> None:
    stager.put({"in/a": b"1", "in/b": b"2"})
    stager.stage("in").close()
    read = stager.sources.downloader.reader.read
    asked: list[str] = []

    def watched(bucket: str, info: Any, offset: int = 0) -> Any:
        asked.append(info.key)
        return read(bucket, info, offset)

    monkeypatch.setattr(stager.sources.downloader.reader, "read", watched)
    stager.put({"in/b": b"3"})
    (stager.directories["algo-1"] / "train" / "a").unlink()
    (stager.directories["algo-1"] / "train" / "b").unlink()
    stager.stage("in", hosts=ONE)
    assert stager.files("algo-1") == {"a": b"1", "b": b"3"}
    assert asked == ["in/b"]


def test_layers_instead_of_copies(stager: Stager) -> None:
    stager.put({"in/a": b"1", "in/sub/b": b"2"})
    object.__setattr__(stager.sources, "overlays", True)
    staged = stager.stage("in")
    assert stager.files("algo-1") == {}
    mounts = [staged.mounts[host.name] for host in HOSTS]
    assert {mount.target for mount in mounts} == {"/opt/ml/input/data/train"}
    assert len({mount.source for mount in mounts}) == 1
    assert len({mount.layer for mount in mounts}) == len(HOSTS)
    assert (mounts[0].source / "sub" / "b").read_bytes() == b"2"


def test_the_cache_lets_go_of_a_channel_that_is_closed(stager: Stager) -> None:
    stager.put({"in/a": b"1"})
    object.__setattr__(stager.sources, "overlays", True)
    staged = stager.stage("in")
    stager.cache._limit = 0
    stager.cache.shrink()
    staged.close()
    assert (staged.mounts["algo-1"].source / "a").exists()
    staged.release()
    stager.cache.shrink()
    # A container that outlives the emulator may still look at it through its layer.
    assert (staged.mounts["algo-1"].source / "a").exists()
    for host in HOSTS:
        shutil.rmtree(stager.root / host.name / "layers")
    stager.cache.shrink()
    assert not staged.mounts["algo-1"].source.exists()


def test_shards_of_several_pages_of_objects(stager: Stager) -> None:
    keys = {f"in/{n % 20:02}/{n:05}": b"" for n in range(2_500)}
    stager.put(keys)
    staged = stager.stage("in", hosts=HOSTS[:2], S3DataDistributionType="ShardedByS3Key")
    assert staged.objects == 2_500
    shards = [sorted(stager.files(host)) for host in ("algo-1", "algo-2")]
    names = sorted(key.removeprefix("in/") for key in keys)
    assert shards == [names[0::2], names[1::2]]


def test_a_manifest_file(stager: Stager) -> None:
    stager.put({"in/a": b"1", "in/sub/b": b"2", "in/not": b"3"})
    listing = [{"prefix": f"s3://{stager.bucket}/in/"}, "sub/b", "a"]
    stager.put({"list.json": json.dumps(listing).encode()})
    assert stager.stage("list.json", S3DataType="ManifestFile") == StagedChannel("train", 2, 2)
    assert stager.files("algo-2") == {"a": b"1", "sub/b": b"2"}


@pytest.mark.parametrize(
    ("listing", "what"),
    [
        (b"not JSON", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b'[{"prefix": "s3://no-such-bucket/"}, "a"]', "names s3://no-such-bucket/a, which cannot"),
        (b'[{"prefix": "s3://no-such-bucket/"}, "../a"]', "illegal char sub-sequence '..'"),
    ],
)
def test_bad_manifest_files(stager: Stager, listing: bytes, what: str) -> None:
    stager.put({"list.json": listing})
    with pytest.raises(ClientError, match=f"Data download failed:.*{what}"):
        stager.stage("list.json", S3DataType="ManifestFile")
    assert stager.files("algo-1") == {}


def test_a_pipe_an_epoch(stager: Stager) -> None:
    stager.put({"in/b": b"22", "in/a": b"1", "in/c": bytes(300_000)})
    stager.stage("in", mode="Pipe")
    for epoch in range(3):
        assert read(stager, epoch) == b"122" + bytes(300_000)
    assert read(stager, 0, "algo-2") == b"122" + bytes(300_000)
    assert (stager.directories["algo-1"] / "train-manifest").read_text().startswith("in\n")


def test_a_pipe_that_is_closed_early(stager: Stager) -> None:
    stager.put({"in/a": bytes(5 << 20), "in/b": b"x"})
    stager.stage("in", hosts=ONE, mode="Pipe")
    with pipe(stager, 0).open("rb") as reader:
        assert reader.read(10) == bytes(10)
    assert len(read(stager, 1)) == (5 << 20) + 1


@pytest.mark.parametrize("opened", [False, True])
def test_a_reader_that_never_comes_or_never_reads(stager: Stager, opened: bool) -> None:
    before = threading.active_count()
    stager.put({"in/a": bytes(5 << 20)})
    staged = stager.stage("in", mode="Pipe")
    readers = []
    if opened:
        path = pipe(stager, 0)
        readers.append(os.open(path, os.O_RDONLY))
    began = time.monotonic()
    staged.close()
    assert time.monotonic() - began < 30
    assert not any(path.is_fifo() for path in stager.root.rglob("*"))
    assert not [t for t in threading.enumerate() if t.name.startswith("pipe ")]
    assert threading.active_count() <= before
    for reader in readers:
        os.close(reader)


def test_a_slow_reader_gets_everything(stager: Stager) -> None:
    stager.put({"in/a": os.urandom(400_000)})
    stager.stage("in", hosts=ONE, mode="Pipe")
    total = 0
    with pipe(stager, 0).open("rb", buffering=0) as reader:
        while data := reader.read(50_000):
            total += len(data)
            time.sleep(0.02)
    assert total == 400_000


def test_shards_of_pipes_change_with_the_epochs(stager: Stager) -> None:
    stager.put({f"in/{n}": str(n).encode() for n in range(8)})
    more = {"ShuffleConfig": {"Seed": 7}}
    stager.stage(
        "in", hosts=HOSTS[:2], mode="Pipe", more=more, S3DataDistributionType="ShardedByS3Key"
    )
    epochs = [[read(stager, n, host) for host in ("algo-1", "algo-2")] for n in range(4)]
    for first, second in epochs:
        assert len(first) == len(second) == 4
        assert sorted(first + second) == sorted(b"01234567")
    assert len({tuple(each) for each in epochs}) > 1


def test_gzip_and_records(stager: Stager) -> None:
    stager.put({f"in/{n}": gzip.compress(b"x" * n) for n in range(1, 6)})
    more = {"CompressionType": "Gzip", "RecordWrapperType": "RecordIO"}
    stager.stage("in", hosts=ONE, mode="Pipe", more=more)
    assert records(read(stager, 0)) == [b"x" * n for n in range(1, 6)]


def test_a_truncated_gzip_is_trouble(stager: Stager) -> None:
    stager.put({"in/a": gzip.compress(os.urandom(50_000))[:20_000]})
    staged = stager.stage("in", hosts=ONE, mode="Pipe", more={"CompressionType": "Gzip"})
    assert staged.trouble() is None
    assert len(read(stager, 0)) < 50_000
    deadline = time.monotonic() + PATIENCE
    while staged.trouble() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "in/a: the gzip file ends too early" in str(staged.trouble())
    assert not (stager.directories["algo-1"] / "train_1").exists()


def test_an_augmented_manifest(stager: Stager) -> None:
    stager.put({"img/1": b"one", "img/2": b"two"})
    lines = [{"source-ref": f"s3://{stager.bucket}/img/{n}", "label": n} for n in (1, 2)]
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    stager.put({"train.manifest": text.encode()})
    stager.stage(
        "train.manifest",
        hosts=ONE,
        mode="Pipe",
        more={"RecordWrapperType": "RecordIO"},
        S3DataType="AugmentedManifestFile",
        AttributeNames=["source-ref", "label"],
    )
    for epoch in range(2):
        assert records(read(stager, epoch)) == [b"one", b"1", b"two", b"2"]


def test_an_augmented_manifest_that_names_what_is_not_there(stager: Stager) -> None:
    stager.put({"m": json.dumps({"source-ref": f"s3://{stager.bucket}/none"}).encode()})
    staged = stager.stage(
        "m",
        hosts=ONE,
        mode="Pipe",
        S3DataType="AugmentedManifestFile",
        AttributeNames=["source-ref"],
    )
    assert read(stager, 0) == b""
    deadline = time.monotonic() + PATIENCE
    while staged.trouble() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "404" in str(staged.trouble())


def file_system(path: str, **more: str) -> ChannelSpec:
    source = {
        "FileSystemId": "fs-0123456789abcdef0",
        "FileSystemType": "EFS",
        "DirectoryPath": path,
        "FileSystemAccessMode": "ro",
        **more,
    }
    return channel_spec(
        {"ChannelName": "train", "DataSource": {"FileSystemDataSource": source}}, "File"
    )


@pytest.mark.parametrize(
    ("path", "known", "what"),
    [
        ("/data", False, r"EMULATOR_FILE_SYSTEMS='\{\"fs-0123456789abcdef0\": \"/directory\"\}'"),
        ("/none", True, "has no directory /none"),
        ("/data/../..", True, "leads out of the file system"),
    ],
)
def test_file_systems_that_cannot_be_had(
    stager: Stager, tmp_path: Path, path: str, known: bool, what: str
) -> None:
    (tmp_path / "efs" / "data").mkdir(parents=True)
    given = {"fs-0123456789abcdef0": tmp_path / "efs"} if known else {}
    with pytest.raises(ValidationError, match=what):
        check_input(stager.store, [file_system(path)], "role", "us-east-1", given)


def test_a_store_that_is_away_for_a_while(stager: Stager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are refused for a second: what came before is kept, nothing fails."""
    stager.put({"in/a": os.urandom(3 << 20), "in/b": b"x"})
    downloader = stager.sources.downloader
    monkeypatch.setattr(downloader, "_patience", 20)
    good, since = downloader.reader._bucket, time.monotonic()
    elsewhere = type(downloader.reader)(type(stager.store)("http://127.0.0.1:1", "k", "s"))

    def away(bucket: str) -> Any:
        return good(bucket) if time.monotonic() > since + 1 else elsewhere._bucket(bucket)

    monkeypatch.setattr(downloader.reader, "_bucket", away)
    stager.stage("in", hosts=ONE)
    assert len(stager.files("algo-1")["a"]) == 3 << 20
