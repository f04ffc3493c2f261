from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_examples import named

from emulator.model.scope import Scope
from emulator.resources.training import TRAINING
from emulator.telemetry.logs.collector import (
    MAX_MESSAGE_BYTES,
    PARTIAL_SECONDS,
    LineCollector,
    job_lines,
    notice,
)
from emulator.telemetry.logs.streams import LogStore

SCOPE = Scope("123456789012", "us-east-1")
GROUP = TRAINING.log_group


class Time:
    def __init__(self) -> None:
        self.now = 1_763_856_000.75

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path)


@pytest.fixture
def lines(store: LogStore, time: Time) -> Iterator[LineCollector]:
    collector = job_lines(store, named(instances=2), time)
    yield collector
    collector.close()


def read(store: LogStore, host: str = "algo-1") -> list[str]:
    page = store.forward(SCOPE, GROUP, f"job/{host}-1763856000")
    return [event.message for event in page.events]


def test_every_instance_has_its_stream_from_the_start(
    store: LogStore, lines: LineCollector
) -> None:
    names = store.stream_names(SCOPE, "/aws/sagemaker/TrainingJobs")
    assert names == ["job/algo-1-1763856000", "job/algo-2-1763856000"]
    assert read(store, "algo-2") == []


@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n")),
    cuts=st.lists(st.integers(0, 400)),
)
def test_bytes_in_any_chunks_give_the_same_lines(
    text: str, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = LogStore(tmp_path_factory.mktemp("logs"))
    collector = job_lines(store, named(), Time())
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        collector.feed("algo-1", data[start:end])
    collector.close()
    assert read(store) == (text.removesuffix("\n").split("\n") if text else [])


def test_control_characters_look_as_on_the_service(store: LogStore, lines: LineCollector) -> None:
    lines.feed("algo-1", b"a\tb\n#015  0%|\r 61%|\n\x1b[34mblue\n\xff bad \xc3\n")
    assert read(store) == ["a#011b", "#015  0%|#015 61%|", "#033[34mblue", "\ufffd bad \ufffd"]


def test_a_line_without_an_end_is_shown_after_a_while(
    store: LogStore, lines: LineCollector, time: Time
) -> None:
    lines.feed("algo-1", b"whole\n10%")
    time.now += PARTIAL_SECONDS - 0.1
    lines.flush_stale()
    lines.feed("algo-1", "\r20% \u20ac".encode()[:-1])
    assert read(store) == ["whole"]
    time.now += 0.2
    lines.flush_stale()
    assert read(store) == ["whole", "10%#01520% "]
    lines.feed("algo-1", "\u20ac".encode()[-1:] + b"\n")
    assert read(store)[-1] == "\u20ac"


def test_the_last_line_may_lack_its_end(store: LogStore, lines: LineCollector) -> None:
    lines.feed("algo-1", b"one\ntwo")
    lines.feed("algo-2", b"three")
    lines.finish("algo-1")
    assert read(store) == ["one", "two"]
    lines.close()
    assert read(store, "algo-2") == ["three"]


def test_streams_that_others_made_are_not_taken_up(store: LogStore) -> None:
    job_lines(store, named(), lambda: 1000.0).close()
    store.writer(SCOPE, GROUP, "job/algo-1-notes").close()
    lines = job_lines(store, named(), Time(), go_on=True)
    lines.say("algo-1", "later")
    lines.close()
    page = store.forward(SCOPE, GROUP, "job/algo-1-1000")
    assert [event.message for event in page.events] == ["later"]


def test_long_lines_are_split_between_characters(store: LogStore, lines: LineCollector) -> None:
    text = "x" + "\u20ac" * 300_000
    lines.feed("algo-1", text.encode())
    assert read(store), "a line that long is not held back"
    lines.feed("algo-1", b"\n")
    collected: list[str] = []
    page = store.forward(SCOPE, GROUP, "job/algo-1-1763856000")
    while page.events:
        collected += [event.message for event in page.events]
        page = store.forward(SCOPE, GROUP, "job/algo-1-1763856000", offset=page.end)
    assert "".join(collected) == text
    assert max(len(piece.encode()) for piece in collected) <= MAX_MESSAGE_BYTES


def test_the_emulator_may_say_lines_itself(store: LogStore, lines: LineCollector) -> None:
    lines.feed("algo-1", b"half")
    lines.say("algo-1", "a notice\nof two lines")
    lines.say_all("to all")
    lines.feed("algo-1", b" whole\n")
    assert read(store) == ["a notice", "of two lines", "to all", "half whole"]
    assert read(store, "algo-2") == ["to all"]


def test_a_notice_goes_to_the_streams_there_are_or_to_new_ones(
    store: LogStore, lines: LineCollector, time: Time
) -> None:
    lines.feed("algo-1", b"one\n")
    lines.close()
    notice(store, named(instances=2), "restarted", time)
    notice(store, named("jo"), "restarted", time)
    assert read(store) == ["one", "restarted"]
    assert read(store, "algo-2") == ["restarted"]
    assert store.stream_names(SCOPE, GROUP, "jo/") == ["jo/algo-1-1763856000"]


def test_a_burst_of_20_megabytes_is_kept_in_order(store: LogStore, lines: LineCollector) -> None:
    data = b"".join(b"line %07d %s\n" % (n, b"." * 180) for n in range(100_000))
    for start in range(0, len(data), 65_536):
        lines.feed("algo-1", data[start : start + 65_536])
    lines.close()
    numbers: list[int] = []
    page = store.forward(SCOPE, GROUP, "job/algo-1-1763856000")
    while page.events:
        numbers += [int(event.message.split()[1]) for event in page.events]
        page = store.forward(SCOPE, GROUP, "job/algo-1-1763856000", offset=page.end)
    assert numbers == list(range(100_000))


def test_a_full_disk_is_told_once_and_leaves_a_gap_that_says_so(
    store: LogStore,
    lines: LineCollector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    lines.feed("algo-1", b"one\n")
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        for text in (b"two\nthree\n", b"four\n"):
            lines.feed("algo-1", text)
    for text in (b"five\n", b"six\n"):
        lines.feed("algo-1", text)
    assert read(store) == ["one", "3 lines are missing here.", "five", "six"]
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "training job job: lines of its log are lost: [Errno 28] No space left on device"
    ]
