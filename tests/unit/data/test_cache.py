"""What stays on the disk, what goes, and who may have it meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from emulator.data.cache.objects import ObjectCache, Wanted
from emulator.data.cache.trees import discard
from emulator.data.objectstore.objects import Cancelled, ObjectInfo


class Source:
    """Makes objects of a hundred bytes and remembers which."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def __call__(self, jobs: Sequence[tuple[Wanted, Path]]) -> None:
        for wanted, target in jobs:
            self.fetched.append(wanted.info.key)
            target.write_bytes(wanted.info.key.encode().ljust(wanted.info.size, b"."))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def new_cache(tmp_path: Path) -> Iterator[Callable[..., ObjectCache]]:
    made: list[ObjectCache] = []

    def new(limit: int = 10_000) -> ObjectCache:
        made.append(ObjectCache(tmp_path / "cache", limit))
        return made[-1]

    yield new
    for cache in made:
        try:
            cache.close()
        except OSError:
            continue  # a test closed it


def wanted(*keys: str, etag: str = "e1", bucket: str = "b") -> list[Wanted]:
    return [Wanted(bucket, ObjectInfo(key, 100, etag), key) for key in keys]


def names(tree: Path) -> list[str]:
    return sorted(str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file())


def test_a_second_job_fetches_nothing(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()
    first = cache.hold(wanted("a", "d/b"), source)
    again = cache.hold(wanted("a", "d/b"), source)
    assert source.fetched == ["a", "d/b"]
    assert again.path == first.path
    assert names(first.path) == ["a", "d/b"]
    assert (first.path / "d/b").read_bytes().startswith(b"d/b.")


def test_only_what_changed_is_fetched_again(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()
    old = cache.hold(wanted("a", "b"), source)
    new = cache.hold([*wanted("a"), *wanted("b", etag="e2")], source)
    assert source.fetched == ["a", "b", "b"]
    assert old.path != new.path
    assert (old.path / "a").samefile(new.path / "a")
    assert not (old.path / "b").samefile(new.path / "b")


def test_buckets_do_not_mix(new_cache: Callable[..., ObjectCache], source: Source) -> None:
    cache = new_cache()
    cache.hold(wanted("a"), source)
    cache.hold(wanted("a", bucket="other"), source)
    assert source.fetched == ["a", "a"]


def test_the_tree_unused_for_longest_goes_first(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache(limit=300)
    trees = []
    for age, key in enumerate("abc"):
        held = cache.hold(wanted(key), source)
        held.release()
        os.utime(held.path.with_name(f"{held.path.name}.used"), (1000 + age, 1000 + age))
        trees.append(held.path)
    cache.hold(wanted("a"), source).release()  # used again: now b is the oldest
    cache.hold(wanted("d"), source)
    assert [tree.is_dir() for tree in trees] == [True, False, True]
    assert cache.size == 300
    assert cache.missing(wanted("a", "b", "c", "d")) == wanted("b")
    assert (cache.hold(wanted("b"), source).path / "b").exists(), "it is fetched again"


def test_what_is_in_use_stays_beyond_the_limit(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache(limit=100)
    first = cache.hold(wanted("a", "b"), source)
    second = cache.hold(wanted("c"), source)
    assert names(first.path) == ["a", "b"]
    assert cache.size == 300
    first.release()
    first.release()
    second.release()
    cache.shrink()
    assert cache.size <= 100


def test_two_jobs_fetch_the_same_objects_once(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()
    busy, go_on = threading.Event(), threading.Event()

    def slow(jobs: Sequence[tuple[Wanted, Path]]) -> None:
        busy.set()
        assert go_on.wait(60)
        source(jobs)

    trees: list[Path] = []
    first = threading.Thread(target=lambda: trees.append(cache.hold(wanted("a"), slow).path))
    first.start()
    assert busy.wait(60)
    second = threading.Thread(
        target=lambda: trees.append(cache.hold(wanted("a", "b"), source).path)
    )
    second.start()
    go_on.set()
    first.join(60)
    second.join(60)
    assert sorted(source.fetched) == ["a", "b"]
    assert sorted(names(tree) for tree in trees) == [["a"], ["a", "b"]]


def test_waiting_for_another_job_can_be_cancelled(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()

    def fetch(jobs: Sequence[tuple[Wanted, Path]]) -> None:
        with pytest.raises(Cancelled):
            cache.hold(wanted("a"), source, lambda: True)
        source(jobs)

    cache.hold(wanted("a"), fetch)
    assert source.fetched == ["a"]


def test_a_failed_fetch_leaves_no_tree(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()

    def fail(jobs: Sequence[tuple[Wanted, Path]]) -> None:
        source(jobs[:1])
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        cache.hold(wanted("a", "b"), fail)
    held = cache.hold(wanted("a", "b"), source)
    assert source.fetched == ["a", "b"]
    assert names(held.path) == ["a", "b"]


def test_what_a_power_failure_cut_short_is_fetched_again(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()
    held = cache.hold(wanted("a", "b"), source)
    held.release()
    os.truncate(held.path / "a", 10)
    cache.close()
    cache = new_cache()
    again = cache.hold(wanted("a", "b"), source)
    assert source.fetched == ["a", "b", "a"]
    assert (again.path / "a").stat().st_size == 100


def test_half_a_tree_of_a_killed_emulator_is_removed(
    new_cache: Callable[..., ObjectCache], source: Source, tmp_path: Path
) -> None:
    cache = new_cache()
    cache.hold(wanted("a"), source)
    cache.close()
    (tmp_path / "cache" / "trees" / "tmp-1").mkdir()
    cache = new_cache()
    assert not (tmp_path / "cache" / "trees" / "tmp-1").exists()
    assert cache.missing(wanted("a")) == []


def test_a_layer_that_a_power_failure_left_does_not_keep_what_was_cut_short(
    new_cache: Callable[..., ObjectCache], source: Source, tmp_path: Path
) -> None:
    cache = new_cache()
    layer = tmp_path / "layer"
    layer.mkdir()
    held = cache.hold(wanted("a", "b"), source, layers=[layer])
    os.truncate(held.path / "a", 10)
    cache.close()
    again = new_cache().hold(wanted("a", "b"), source)
    assert source.fetched == ["a", "b", "a"]
    assert (again.path / "a").stat().st_size == 100


def test_what_is_left_of_a_broken_download_is_no_object(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache(limit=250)

    def fail(jobs: Sequence[tuple[Wanted, Path]]) -> None:
        jobs[0][1].with_name(f"{jobs[0][1].name}.part").write_bytes(bytes(5000))
        raise OSError("broken")

    cache.hold(wanted("a"), source).release()
    with pytest.raises(OSError, match="broken"):
        cache.hold(wanted("b"), fail)
    assert cache.size == 100
    cache.hold(wanted("c", "d"), source).release()  # has to make room
    assert cache.size == 200
    cache.close()
    assert new_cache().size == 200


def test_making_room_looks_at_no_more_than_what_goes(
    new_cache: Callable[..., ObjectCache], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = new_cache(limit=4000)
    for tree in range(20):
        cache.hold(wanted(*(f"{tree}-{n}" for n in range(10))), source).release()
    looks: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (looks.append(str(path)), scandir(path))[1])
    for tree in range(20, 30):
        cache.hold(wanted(*(f"{tree}-{n}" for n in range(10))), source).release()
    assert cache.size <= 4000
    blobs = [path for path in looks if "/blobs/" in path]
    assert blobs == []


def test_trees_of_an_earlier_version_are_removed_with_their_objects(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache(limit=200)
    held = cache.hold(wanted("a", "b"), source)
    held.release()
    held.path.with_name(f"{held.path.name}.blobs").unlink()
    cache.hold(wanted("c"), source)
    assert cache.size == 100
    assert cache.missing(wanted("a", "b", "c")) == wanted("a", "b")


def test_what_two_trees_share_goes_with_the_last_of_them(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache(limit=300)
    first = cache.hold(wanted("a", "b"), source)
    second = cache.hold(wanted("b", "c"), source)
    first.release()
    cache.hold(wanted("d"), source).release()
    assert cache.missing(wanted("a", "b", "c", "d")) == wanted("a")
    second.release()
    cache.shrink(300)
    assert cache.size == 0


def test_a_job_does_not_wait_while_another_one_makes_room(
    new_cache: Callable[..., ObjectCache], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = new_cache(limit=300)
    cache.hold(wanted("a"), source).release()
    cache.hold(wanted("b"), source).release()
    removing, go_on = threading.Event(), threading.Event()

    def slowly(gone: Path) -> None:
        removing.set()
        assert go_on.wait(60)
        discard(gone)

    monkeypatch.setattr("emulator.data.cache.objects.discard", slowly)
    evicting = threading.Thread(target=lambda: cache.shrink(300))
    evicting.start()
    assert removing.wait(60)
    assert names(cache.hold(wanted("b"), source).path) == ["b"]
    go_on.set()
    evicting.join(60)
    assert cache.missing(wanted("a", "b")) == wanted("a")
    assert source.fetched == ["a", "b"]


def test_what_an_interrupted_removal_leaves_is_removed_at_the_next_start(
    new_cache: Callable[..., ObjectCache], source: Source
) -> None:
    cache = new_cache()
    held = cache.hold(wanted("a"), source)
    held.path.rename(held.path.with_name("tmp-1"))  # and then the emulator was killed
    cache.close()
    cache = new_cache(limit=100)
    assert list(held.path.parent.iterdir()) == []
    cache.hold(wanted("b"), source)
    assert cache.missing(wanted("a", "b")) == wanted("a")
