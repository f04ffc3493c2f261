"""Checkpoints against a real object store: restored, kept up to date, never torn."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from emulator.data.checkpoints.mirror import Killed, LastRound, Mirror, Rules, is_open_for_writing
from emulator.data.checkpoints.restore import restore
from emulator.data.objectstore.objects import Cancelled, ObjectStore, StoreError, never
from emulator.data.outputs.tree import Found, scan
from emulator.model.errors import ClientError
from emulator.model.workload import S3Uri

Make = Callable[..., Mirror]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    made = {host: tmp_path / host / "checkpoints" for host in ("algo-1", "algo-2")}
    for root in made.values():
        root.mkdir(parents=True)
    return made


@pytest.fixture
def mirror(object_store: ObjectStore, bucket: str, roots: dict[str, Path]) -> Mirror:
    target = S3Uri(bucket, "ckpt")
    return Mirror(roots, target, object_store, "/opt/ml/checkpoints", Rules())


def content(store: ObjectStore, bucket: str, key: str) -> bytes:
    return b"".join(store.read(bucket, key))


def keys(store: ObjectStore, bucket: str) -> list[str]:
    return sorted(info.key for info in store.list(bucket, ""))


def seen(path: Path) -> Found:
    return next(each for each in scan(path.parent, print) if each.path == path)


def rounds(mirror: Mirror, count: int = 2) -> None:
    for _ in range(count):
        mirror.round()


def test_instances_share_one_prefix_and_deletes_propagate(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    (roots["algo-1"] / "step 1").mkdir()
    (roots["algo-1"] / "step 1" / "ü+%.pt").write_text("1")
    (roots["algo-2"] / "rank-1.pt").write_text("2")
    mirror.round()
    assert keys(object_store, bucket) == [], "they may still be written"
    mirror.round()
    assert keys(object_store, bucket) == ["ckpt/rank-1.pt", "ckpt/step 1/ü+%.pt"]
    (roots["algo-1"] / "step 1" / "ü+%.pt").unlink()
    rounds(mirror)
    assert keys(object_store, bucket) == ["ckpt/rank-1.pt"]
    assert not mirror.round(), "there is nothing to do"
    assert mirror.pending() == []


def test_what_others_put_into_s3_stays_there_and_is_not_pulled(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("x")
    object_store.upload_file(bucket, "ckpt/other", tmp_path / "other")
    (roots["algo-1"] / "mine").write_text("x")
    mirror.round(LastRound())
    assert keys(object_store, bucket) == ["ckpt/mine", "ckpt/other"]
    assert list(roots["algo-2"].iterdir()) == []


def test_a_file_that_changes_while_it_is_read_never_becomes_an_object(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    path = roots["algo-1"] / "big.pt"
    path.write_bytes(b"a" * (20 << 20))

    class Meddled(ObjectStore):
        """Something happens to the file between the first part and the last."""

        def upload(self, bucket: str, key: str, stream: object, *rest: object) -> None:
            read = stream.read  # type: ignore[attr-defined]

            def meddle(size: int = -1) -> bytes:
                data: bytes = read(size)
                with path.open("r+b") as file:
                    file.write(b"b")
                return data

            stream.read = meddle  # type: ignore[attr-defined]
            super().upload(bucket, key, stream, *rest)  # type: ignore[arg-type]

    mirror._store = Meddled(object_store.endpoint, "emulator", "emulator-secret")
    rounds(mirror, 3)
    assert keys(object_store, bucket) == []
    mirror._store = object_store
    rounds(mirror)
    assert keys(object_store, bucket) == ["ckpt/big.pt"]


def test_a_file_that_is_open_for_writing_waits_but_not_for_ever(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    path = roots["algo-1"] / "slow.pt"
    with path.open("wb") as file:
        file.write(b"half")
        file.flush()
        assert is_open_for_writing(seen(path))
        rounds(mirror, 5)
        assert keys(object_store, bucket) == []
        rounds(mirror, 6)
        assert keys(object_store, bucket) == ["ckpt/slow.pt"]
    assert not is_open_for_writing(seen(path))


def test_growing_event_files_go_up_as_they_are(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    mirror = Mirror(
        roots,
        S3Uri(bucket, "tb"),
        object_store,
        "/opt/ml/output/tensorboard",
        Rules(whole_files=False, deletes=False),
    )
    path = roots["algo-1"] / "events.out.tfevents"
    with path.open("wb") as file:
        for text in (b"one", b"two"):
            file.write(text)
            file.flush()
            mirror.round()
    assert content(object_store, bucket, "tb/events.out.tfevents") == b"onetwo"
    path.unlink()
    mirror.round(LastRound())
    assert keys(object_store, bucket) == ["tb/events.out.tfevents"]


def test_links_stand_for_the_files_they_lead_to(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    root = roots["algo-1"]
    (root / "step-2").mkdir()
    (root / "step-2" / "w.pt").write_text("2")
    (root / "last.pt").symlink_to("step-2/w.pt")
    (root / "absolute.pt").symlink_to("/opt/ml/checkpoints/step-2/w.pt")
    (root / "latest").symlink_to("step-2")
    (root / "outside").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nothing")
    mirror.round(LastRound())
    assert keys(object_store, bucket) == ["ckpt/absolute.pt", "ckpt/last.pt", "ckpt/step-2/w.pt"]
    assert content(object_store, bucket, "ckpt/absolute.pt") == b"2"


def test_restored_on_every_instance_with_a_manifest(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text("saved")
    for key in ("ckpt/a/b.pt", "ckpt/c.pt", "ckpt-2/not-mine", "ckptX"):
        object_store.upload_file(bucket, key, source)
    manifests = [tmp_path / f"{host}-manifest" for host in roots]
    uri = S3Uri(bucket, "ckpt")
    assert restore(uri, list(roots.values()), manifests, object_store, never) == 2
    for root, text in zip(roots.values(), manifests, strict=True):
        files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
        assert files == {"a/b.pt", "c.pt"}
        assert text.read_text() == f"ckpt\ns3://{bucket}/ckpt/a/b.pt\ns3://{bucket}/ckpt/c.pt\n"
    mirror.remember_all()
    assert not mirror.round(LastRound()), "what came from S3 need not go back"
    (roots["algo-2"] / "c.pt").unlink()
    mirror.round(LastRound())
    assert "ckpt/c.pt" not in keys(object_store, bucket)
    assert "ckpt-2/not-mine" in keys(object_store, bucket)


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_name_as_long_as_names_get_is_restored(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], tmp_path: Path, size: int
) -> None:
    (tmp_path / "source").write_bytes(data := os.urandom(size))
    object_store.upload_file(bucket, f"ckpt/{'n' * 255}", tmp_path / "source")
    restore(S3Uri(bucket, "ckpt"), list(roots.values()), [], object_store, never)
    for root in roots.values():
        assert [path.read_bytes() for path in root.iterdir()] == [data]


def test_a_stop_is_heeded_while_the_store_is_away(roots: dict[str, Path]) -> None:
    away = ObjectStore("http://127.0.0.1:1", "k", "s", tries=0)
    with pytest.raises(Cancelled):
        restore(S3Uri("b", "ckpt"), list(roots.values()), [], away, lambda: True)


def test_an_empty_prefix_is_a_manifest_of_one_line(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest"
    directories = list(roots.values())
    assert restore(S3Uri(bucket, "none/"), directories, [manifest], object_store, never) == 0
    assert manifest.read_text() == "none/\n"


def test_a_bucket_that_is_not_there(
    object_store: ObjectStore, roots: dict[str, Path], tmp_path: Path
) -> None:
    uri = S3Uri("not-there-at-all", "ckpt")
    with pytest.raises(ClientError, match=r"Data download failed:.* NoSuchBucket \(404\)"):
        restore(uri, list(roots.values()), [], object_store, never)
    (roots["algo-1"] / "f").write_text("x")
    with pytest.raises(StoreError):
        Mirror(roots, uri, object_store, "/c", Rules()).round(LastRound())


NS = 1_000_000_000


def at(path: Path, text: str, seconds: int) -> None:
    """Write a file in place, at that time."""
    path.write_text(text)
    os.utime(path, (seconds, seconds))


def kill(rested: int = 150, dead: int = 160) -> LastRound:
    """Times of 1970: whatever the tests really did to the files came after the death."""
    killed = {host: Killed(rested * NS, dead * NS) for host in ("algo-1", "algo-2")}
    return LastRound(killed, doubtful_if_new=False)


def test_only_what_had_rested_before_a_kill_goes_up(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    at(roots["algo-1"] / "old.pt", "x", 100)
    at(roots["algo-1"] / "torn.pt", "x", 155)
    mirror.round(kill())
    assert keys(object_store, bucket) == ["ckpt/old.pt"]
    assert mirror.pending() == [("algo-1", "torn.pt")]


def test_what_was_overwritten_just_before_a_kill_does_not_cost_s3_its_version(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    path = roots["algo-1"] / "last.pt"
    path.write_text("whole")
    mirror.round(LastRound())
    path.write_text("to")
    now = int(path.stat().st_mtime_ns)
    mirror.round(LastRound({"algo-1": Killed(now - NS, now)}))
    assert content(object_store, bucket, "ckpt/last.pt") == b"whole"
    assert mirror.pending() == [("algo-1", "last.pt")]
    mirror.round(LastRound({"algo-1": Killed(now + NS, now + 2 * NS)}))
    assert content(object_store, bucket, "ckpt/last.pt") == b"to", "it had rested"


@pytest.mark.parametrize("slow", [False, True], ids=["in no time", "a while after the write"])
def test_what_was_renamed_into_place_just_before_a_kill_goes_up(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror, slow: bool
) -> None:
    path, new = roots["algo-1"] / "last.pt", roots["algo-1"] / "new"
    path.write_text("first")
    mirror.round(LastRound())
    new.write_text("second")
    if slow:
        written = new.stat().st_mtime_ns
        while new.stat().st_ctime_ns == written:
            new.chmod(0o600)
    new.rename(path)
    now = path.stat().st_ctime_ns
    mirror.round(LastRound({"algo-1": Killed(now - NS, now)}, doubtful_if_new=False))
    assert content(object_store, bucket, "ckpt/last.pt") == b"second"
    assert mirror.pending() == []


@pytest.mark.parametrize("torn", [False, True])
def test_an_archive_tells_whether_it_is_whole(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror, torn: bool
) -> None:
    path = roots["algo-1"] / "last.pt"
    path.write_text("first")
    mirror.round(LastRound())
    with ZipFile(path, "w") as archive:
        archive.writestr("weights", "second")
    if torn:
        path.write_bytes(path.read_bytes()[:-10])
    data, now = path.read_bytes(), path.stat().st_mtime_ns
    mirror.round(LastRound({"algo-1": Killed(now - NS, now)}))
    assert content(object_store, bucket, "ckpt/last.pt") == (b"first" if torn else data)


def test_a_kill_deletes_nothing_in_s3(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror
) -> None:
    path = roots["algo-1"] / "last.pt"
    path.write_text("whole")
    mirror.round(LastRound())
    path.unlink()
    mirror.round(kill())
    assert keys(object_store, bucket) == ["ckpt/last.pt"]
    mirror.round(LastRound())
    assert keys(object_store, bucket) == [], "what ended by itself means it"


@pytest.mark.parametrize("instead", ["dangling link", "link to a directory", "linked parent"])
def test_what_is_left_out_of_a_listing_stays_in_s3(
    object_store: ObjectStore,
    bucket: str,
    roots: dict[str, Path],
    mirror: Mirror,
    tmp_path: Path,
    instead: str,
) -> None:
    path = roots["algo-1"] / "step" / "w.pt"
    path.parent.mkdir()
    path.write_text("whole")
    mirror.round(LastRound())
    if instead == "linked parent":
        path.parent.rename(tmp_path / "step")
        path.parent.symlink_to(tmp_path / "step")
    else:
        path.unlink()
        path.symlink_to("nothing" if instead == "dangling link" else tmp_path)
    rounds(mirror)
    mirror.round(LastRound())
    assert keys(object_store, bucket) == ["ckpt/step/w.pt"]


def test_a_directory_that_is_away_costs_s3_nothing(
    object_store: ObjectStore, bucket: str, roots: dict[str, Path], mirror: Mirror, tmp_path: Path
) -> None:
    (roots["algo-1"] / "w.pt").write_text("whole")
    mirror.round(LastRound())
    roots["algo-1"].rename(tmp_path / "moved")
    rounds(mirror)
    mirror.round(LastRound())
    roots["algo-1"].symlink_to(tmp_path / "moved")
    mirror.round(LastRound())
    assert keys(object_store, bucket) == ["ckpt/w.pt"]
