"""Patience with a store that is away, downloads that go on, work shared by threads."""

from __future__ import annotations

import hashlib
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.data.objectstore.objects import Cancelled, ObjectInfo, ObjectStore, StoreError
from emulator.data.objectstore.transfer import Downloader, Patience, in_parallel

AWAY = StoreError("ServiceUnavailable", 503, "away")
GONE = StoreError("NoSuchKey", 404, "gone")
CONTENT = bytes(range(256)) * 40_000
INFO = ObjectInfo("k", len(CONTENT), hashlib.md5(CONTENT).hexdigest())


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Reader:
    """Gives the content in pieces and breaks off where it is told to."""

    def __init__(self, content: bytes = CONTENT):
        self.content = content
        self.breaks: list[int] = []
        self.offsets: list[int] = []

    def read(self, _bucket: str, _info: ObjectInfo, offset: int = 0) -> Iterator[bytes]:
        self.offsets.append(offset)
        end = self.breaks.pop(0) if self.breaks else len(self.content)
        for start in range(offset, end, 1 << 20):
            yield self.content[start : min(start + (1 << 20), end)]
        if end < len(self.content):
            raise AWAY


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(
        Downloader,
        "patience",
        lambda _, cancelled: Patience(cancelled, 60, clock, clock.sleep),
    )
    return clock


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def downloader(reader: Reader, clock: Clock) -> Downloader:
    downloader = Downloader(ObjectStore("http://127.0.0.1:1", "k", "s"))
    downloader.reader = reader  # type: ignore[assignment]
    return downloader


def failing(times: int, error: StoreError) -> Callable[[], str]:
    left = [error] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


def test_a_store_that_is_away_for_a_minute_is_waited_for() -> None:
    clock = Clock()
    assert Patience(seconds=60, clock=clock, sleep=clock.sleep).call(failing(12, AWAY)) == "done"
    assert 30 < clock.now < 60


def test_patience_ends() -> None:
    clock = Clock()
    with pytest.raises(StoreError, match="away"):
        Patience(seconds=60, clock=clock, sleep=clock.sleep).call(failing(1000, AWAY))
    assert 60 <= clock.now < 70


def test_what_will_not_change_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(StoreError, match="gone"):
        Patience(clock=clock, sleep=clock.sleep).call(failing(1, GONE))
    assert clock.now == 0


def test_waiting_can_be_cancelled() -> None:
    clock = Clock()
    with pytest.raises(Cancelled):
        Patience(lambda: clock.now > 2, 60, clock, clock.sleep).call(failing(1000, AWAY))
    assert clock.now < 4


def test_a_download_goes_on_where_it_broke_off(
    downloader: Downloader, reader: Reader, tmp_path: Path
) -> None:
    reader.breaks = [3 << 20, 5 << 20]
    counts: list[int] = []
    downloader.download("b", INFO, tmp_path / "f", counts.append)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert reader.offsets == [0, 3 << 20, 5 << 20]
    assert sum(counts) == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_another_process_takes_up_what_one_has_left(
    downloader: Downloader, reader: Reader, tmp_path: Path
) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT[: 4 << 20])
    counts: list[int] = []
    downloader.download("b", INFO, tmp_path / "f", counts.append)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert reader.offsets == [4 << 20]
    assert sum(counts) == len(CONTENT)


@pytest.mark.parametrize("size", [9 << 20, 1000])
def test_what_was_damaged_is_fetched_once_more(
    downloader: Downloader,
    reader: Reader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    monkeypatch.setattr(downloader.store, "encrypted_by_kms", lambda *_: False)
    reader.content = CONTENT[:size]
    info = ObjectInfo("k", size, hashlib.md5(reader.content).hexdigest())
    if size > 1 << 20:
        (tmp_path / "f.part").write_bytes(b"damaged".ljust(8 << 20))
    else:
        real, reads = reader.read, [0]

        def damaged(bucket: str, wanted: ObjectInfo, offset: int = 0) -> Iterator[bytes]:
            reads[0] += 1
            return iter([bytes(size)]) if reads[0] == 1 else real(bucket, wanted, offset)

        monkeypatch.setattr(reader, "read", damaged)
    counts: list[int] = []
    downloader.download("b", info, tmp_path / "f", counts.append)
    assert (tmp_path / "f").read_bytes() == reader.content
    assert sum(counts) == size


def test_what_is_damaged_in_the_store_is_not_fetched_for_ever(
    downloader: Downloader, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader.store, "encrypted_by_kms", lambda *_: False)
    with pytest.raises(StoreError, match="the content's MD5 is"):
        downloader.download(
            "b",
            ObjectInfo("k", len(CONTENT), "0" * 32),
            tmp_path / "f",
            cancelled=lambda: len(reader.offsets) > 10,
        )
    assert reader.offsets == [0, 0, 0]
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("size", [900_000, 1_900_000])
def test_a_file_that_cannot_take_all_of_it_is_an_error(
    downloader: Downloader, reader: Reader, tmp_path: Path, size: int
) -> None:
    """As on a full disk, the system writes what still fits, and says so by a number only."""
    reader.content = CONTENT[:size]
    info = ObjectInfo("k", size, hashlib.md5(reader.content).hexdigest())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            downloader.download("b", info, tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_an_etag_of_kms_is_no_checksum(
    downloader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader.store, "encrypted_by_kms", lambda *_: True)
    downloader.download("b", ObjectInfo("k", len(CONTENT), "0" * 32), tmp_path / "f")
    assert (tmp_path / "f").stat().st_size == len(CONTENT)


def test_a_cancelled_download_keeps_only_what_is_worth_it(
    downloader: Downloader, reader: Reader, tmp_path: Path
) -> None:
    with pytest.raises(Cancelled):
        downloader.download("b", INFO, tmp_path / "f", cancelled=lambda: bool(reader.offsets))
    assert [path.name for path in tmp_path.iterdir()] == ["f.part"]
    reader.content = bytes(2 << 20)
    small = ObjectInfo("k", 2 << 20, "")
    with pytest.raises(Cancelled):
        downloader.download("b", small, tmp_path / "g", cancelled=lambda: len(reader.offsets) > 1)
    assert [path.name for path in tmp_path.iterdir()] == ["f.part"]


def test_an_object_as_a_stream_over_answers_that_break_off(
    downloader: Downloader, reader: Reader
) -> None:
    reader.breaks = [1 << 20, 7 << 20]
    assert b"".join(downloader.stream("b", INFO)) == CONTENT


def test_every_item_is_done_once() -> None:
    done: list[int] = []
    in_parallel(lambda item, _: done.append(item), range(1000))
    assert sorted(done) == list(range(1000))


def test_the_first_failure_ends_all_and_is_raised() -> None:
    reached = threading.Event()

    def work(item: int, stopping: Callable[[], bool]) -> None:
        if item == 3:
            reached.set()
            raise GONE
        assert reached.wait(60)
        if stopping():
            raise Cancelled("because of the other one")

    with pytest.raises(StoreError, match="gone"):
        in_parallel(work, range(1000), threads=4)


def test_work_can_be_cancelled() -> None:
    done: list[int] = []
    with pytest.raises(Cancelled):
        in_parallel(lambda item, _: done.append(item), range(1000), lambda: len(done) > 10)
    assert len(done) < 1000
