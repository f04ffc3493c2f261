"""What every input mode does with a channel, held against a real object store."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channel_harness import HOSTS, Stager, channel

from emulator.data.inputs import (
    MODES,
    Cancelled,
    StagedChannel,
    check_input,
    refuse_unsupported,
)
from emulator.data.objectstore.objects import ObjectStore
from emulator.model.errors import ApiError, ClientError, NotBuilt, ValidationError

ROLE = "arn:aws:iam::123456789012:role/Role"


def test_every_host_gets_every_object(stager: Stager) -> None:
    data = {f"in/{name}": os.urandom(1000) for name in ("a", "sub/b", "ü ñ+%.txt", "sub/deep/c")}
    stager.put(data)
    assert stager.stage("in") == StagedChannel("train", 4, 4000)
    expected = {key.removeprefix("in/"): content for key, content in data.items()}
    for host in HOSTS:
        assert stager.files(host.name) == expected
    assert stager.seen[0] == (0, 4000)
    assert stager.seen[-1] == (4000, 4000)


def test_the_hosts_files_are_their_own(stager: Stager) -> None:
    stager.put({"in/a": b"one"})
    stager.stage("in")
    first, second = (stager.directories[name] / "train" / "a" for name in ("algo-1", "algo-2"))
    first.write_bytes(b"changed by algo-1")
    assert second.read_bytes() == b"one"
    assert second.stat().st_nlink == 1


def test_the_manifest_lists_all_objects(stager: Stager) -> None:
    stager.put({"in/b": b"2", "in/a": b"1"})
    stager.stage("in", S3DataDistributionType="ShardedByS3Key")
    text = f"in\ns3://{stager.bucket}/in/a\ns3://{stager.bucket}/in/b\n"
    for directory in stager.directories.values():
        assert (directory / "train-manifest").read_text() == text


def test_shards(stager: Stager) -> None:
    stager.put({f"in/{number:02}": b"x" for number in range(7)} | {"in/dir/": b""})
    staged = stager.stage("in", S3DataDistributionType="ShardedByS3Key")
    assert staged.objects == 7
    assert sorted(stager.files("algo-1")) == ["00", "03", "06"]
    assert sorted(stager.files("algo-2")) == ["01", "04"]
    assert sorted(stager.files("algo-3")) == ["02", "05"]


def test_a_host_without_a_share_has_an_empty_directory(stager: Stager) -> None:
    stager.put({"in/only": b"x"})
    stager.stage("in", S3DataDistributionType="ShardedByS3Key")
    assert stager.files("algo-1") == {"only": b"x"}
    assert (stager.directories["algo-3"] / "train").is_dir()
    assert stager.files("algo-3") == {}


def test_only_the_instance_groups_named_get_the_channel(stager: Stager) -> None:
    stager.put({"in/0": b"x", "in/1": b"y"})
    stager.stage("in", InstanceGroupNames=["workers"], S3DataDistributionType="ShardedByS3Key")
    assert list(stager.files("algo-1")) == ["0"]
    assert list(stager.files("algo-2")) == ["1"]
    assert list(stager.directories["algo-3"].iterdir()) == []


def test_a_prefix_that_is_an_object(stager: Stager) -> None:
    stager.put({"in/abalone.libsvm": b"x"})
    stager.stage("in/abalone.libsvm")
    assert stager.files("algo-1") == {"abalone.libsvm": b"x"}


def test_empty_objects(stager: Stager) -> None:
    stager.put({"in/empty": b"", "in/full": b"x"})
    stager.stage("in/")
    assert stager.files("algo-2") == {"empty": b"", "full": b"x"}


def test_two_thousand_objects(stager: Stager) -> None:
    data = {f"in/{number % 10}/{number:05}": str(number).encode() for number in range(2000)}
    stager.put(data)
    stager.stage("in", hosts=HOSTS[:2])
    expected = {key.removeprefix("in/"): content for key, content in data.items()}
    assert stager.files("algo-1") == expected
    assert stager.files("algo-2") == expected
    totals = [done for done, _ in stager.seen]
    assert totals == sorted(totals)


@pytest.mark.parametrize("prefix", ["in//a", "in/../a", "/in", "in//"])
def test_an_illegal_prefix_fails_and_writes_nothing(stager: Stager, prefix: str) -> None:
    stager.put({"in/a": b"x", "a": b"y"})
    before = sorted(stager.root.rglob("*"))
    with pytest.raises(ClientError, match=r"Data download failed:.*has an illegal char sub-seq"):
        stager.stage(prefix)
    assert sorted(stager.root.rglob("*")) == before


def test_no_objects(stager: Stager) -> None:
    with pytest.raises(ClientError, match=r"Data download failed:.*No S3 objects found"):
        stager.stage("none")


def test_a_bucket_that_is_gone(stager: Stager) -> None:
    stager.bucket = "gone-since-the-check"
    with pytest.raises(ClientError, match=r"Data download failed:.*NoSuchBucket \(404\)"):
        stager.stage("in")


def test_an_object_that_is_gone_fails_the_channel(
    stager: Stager, monkeypatch: pytest.MonkeyPatch
) -> None:
    stager.put({"in/a": b"x"})
    (info,) = stager.store.list(stager.bucket, "in/a")
    listed = [info, type(info)("in/gone", 1, "")]
    monkeypatch.setattr(stager.store, "list", lambda *_: iter(listed))
    with pytest.raises(ClientError, match=r"NoSuchKey \(404\)"):
        stager.stage("in")


def test_a_full_disk(stager: Stager, monkeypatch: pytest.MonkeyPatch) -> None:
    stager.put({"in/a": b"x"})
    (info,) = stager.store.list(stager.bucket, "in/a")
    huge = type(info)(info.key, 1 << 60, info.etag)
    monkeypatch.setattr(stager.store, "list", lambda *_: iter([huge]))
    with pytest.raises(ClientError) as caught:
        stager.stage("in")
    assert str(caught.value).startswith(
        f"ClientError: Data download failed:Insufficient disk space ({1 << 60} bytes are needed, "
    )


def test_a_disk_that_fills_up_meanwhile(stager: Stager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own ENOSPC, from /dev/full in the place of the partial file."""
    stager.put({"in/a": bytes(3 << 20)})
    real = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if path.suffix == ".part":
            return real(Path("/dev/full"), "wb", buffering=0)
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ClientError) as caught:
        stager.stage("in")
    assert str(caught.value) == (
        "ClientError: Data download failed:Insufficient disk space "
        "(No space left on device: input data of train)"
    )


def test_a_stop_ends_a_long_download(stager: Stager) -> None:
    stager.put({f"in/{number}": bytes(24 << 20) for number in range(4)})
    stopped = threading.Event()
    stager.seen = NotifyingList(lambda seen: seen[0] > 0 and stopped.set())
    began = time.monotonic()
    with pytest.raises(Cancelled):
        stager.stage("in", cancelled=stopped.is_set)
    assert time.monotonic() - began < 30
    assert stager.seen[-1][0] < 96 << 20
    assert list(stager.root.rglob("*.part")) == []


class NotifyingList(list[tuple[int, int]]):
    def __init__(self, notify: Callable[[tuple[int, int]], object]):
        super().__init__()
        self.notify = notify

    def append(self, item: tuple[int, int]) -> None:
        super().append(item)
        self.notify(item)


def test_check_input_says_what_the_service_says(object_store: ObjectStore, bucket: str) -> None:
    object_store.upload(bucket, "in/a", io.BytesIO(b"x"))
    good = channel(f"s3://{bucket}/in")
    check_input(object_store, [good], ROLE, "us-west-2")
    for missing, name in ((f"s3://{bucket}/none", bucket), ("s3://no-such-bkt/x", "no-such-bkt")):
        with pytest.raises(ValidationError) as caught:
            check_input(object_store, [good, channel(missing)], ROLE, "us-west-2")
        assert caught.value.code == "ValidationException"
        assert str(caught.value) == (
            f'No S3 objects found under S3 URL "{missing}" given in input data source. Please '
            "ensure that the bucket exists in the selected region (us-west-2), that objects exist "
            f'under that S3 prefix, and that the role "{ROLE}" has "s3:ListBucket" permissions on '
            f'bucket "{name}".'
        )


def test_check_input_without_a_store_is_not_the_users_fault() -> None:
    nowhere = ObjectStore("http://127.0.0.1:1", "k", "s")
    with pytest.raises(ApiError) as caught:
        check_input(nowhere, [channel("s3://bkt/x")], ROLE, "us-west-2")
    assert caught.value.status == 503


@pytest.mark.parametrize("mode", MODES)
def test_what_is_built_is_accepted(mode: str) -> None:
    refuse_unsupported(channel("s3://b/k", mode))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("ManifestFile", "FastFile"), ("AugmentedManifestFile", "File")],
)
def test_data_types_that_a_mode_does_not_have(kind: str, mode: str) -> None:
    with pytest.raises(ValidationError, match=f"{kind} cannot be used with TrainingInputMode"):
        refuse_unsupported(channel("s3://b/k", mode, S3DataType=kind))


def test_data_types_that_are_not_built() -> None:
    with pytest.raises(NotBuilt, match=r"S3DataType Converse.*is not built into sagemaker-emul"):
        refuse_unsupported(channel("s3://b/k", S3DataType="Converse"))
