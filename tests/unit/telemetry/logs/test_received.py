"""Where an emulator after a killed one goes on with a log."""

from __future__ import annotations

from pathlib import Path

from job_examples import named

from emulator.model.scope import Scope
from emulator.resources.training import TRAINING
from emulator.telemetry.logs.collector import LineCollector, job_lines
from emulator.telemetry.logs.streams import LogStore

SCOPE = Scope("123456789012", "us-east-1")
GROUP = TRAINING.log_group
OUTPUT = b"one\ntwo\nthree\nfour\n"


def collector(store: LogStore, go_on: bool = False) -> LineCollector:
    return job_lines(store, named(), lambda: 1000.0, go_on)


def messages(store: LogStore) -> list[str]:
    events = store.forward(SCOPE, GROUP, "job/algo-1-1000").events
    assert {event.timestamp for event in events} == {1_000_000}
    return [event.message for event in events]


def test_every_line_is_there_once_wherever_the_first_emulator_was_killed(tmp_path: Path) -> None:
    for size in range(len(OUTPUT) + 1):
        store = LogStore(tmp_path / str(size))
        first = collector(store)
        first.say("algo-1", "a note")
        first.feed("algo-1", OUTPUT[:size])
        store = LogStore(tmp_path / str(size))  # another emulator's
        second = collector(store, go_on=True)
        known = second.received["algo-1"]
        assert known == OUTPUT[:size].rfind(b"\n") + 1
        second.feed("algo-1", OUTPUT[known:])
        assert messages(store) == ["a note", "one", "two", "three", "four"]


def test_a_piece_that_was_written_by_half_comes_again_as_a_whole(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    first = collector(store)
    first.feed("algo-1", b"one\n")
    first.feed("algo-1", OUTPUT[4:])
    path = store.path(SCOPE, GROUP, "job/algo-1-1000")
    whole = path.read_bytes()
    cut = whole.index(b"four")
    path.write_bytes(whole[:cut])
    store = LogStore(tmp_path)  # another emulator's
    second = collector(store, go_on=True)
    assert second.received == {"algo-1": len(b"one\n")}
    second.feed("algo-1", OUTPUT[4:])
    assert messages(store) == ["one", "two", "three", "four"]


def test_the_newest_stream_of_a_job_is_the_one_that_goes_on(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    for started, line in ((999.0, b"first attempt\n"), (1000.0, b"second\n")):
        job_lines(store, named(), lambda now=started: now).feed("algo-1", line)
    assert collector(store, go_on=True).received == {"algo-1": len(b"second\n")}
