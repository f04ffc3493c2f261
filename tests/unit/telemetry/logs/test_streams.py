from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.model.errors import ResourceNotFound
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import PAGE_BYTES, LogPage, LogStore

SCOPE = Scope("123456789012", "us-east-1")
GROUP, STREAM = "/aws/sagemaker/TrainingJobs", "job/algo-1-1763856000"
messages = st.lists(st.tuples(st.text(max_size=40), st.integers(0, 3)), max_size=60)


def write(store: LogStore, lines: list[tuple[str, int]], stream: str = STREAM) -> list[int]:
    """Write messages, each so many ms after the one before; their timestamps."""
    moment, moments = 1000, []
    writer = store.writer(SCOPE, GROUP, stream)
    for text, gap in lines:
        moment += gap
        moments.append(moment)
        writer.write(text, moment)
    writer.close()
    return moments


def all_forward(store: LogStore, limit: int, **window: int) -> list[str]:
    found: list[str] = []
    page = store.forward(SCOPE, GROUP, STREAM, limit=limit, **window)
    while page.events:
        assert len(page.events) <= limit
        found += [event.message for event in page.events]
        page = store.forward(SCOPE, GROUP, STREAM, offset=page.end, limit=limit, **window)
    return found


def all_backward(store: LogStore, limit: int, **window: int) -> list[str]:
    found: list[str] = []
    page = store.backward(SCOPE, GROUP, STREAM, limit=limit, **window)
    while page.events:
        found = [event.message for event in page.events] + found
        page = store.backward(SCOPE, GROUP, STREAM, offset=page.start, limit=limit, **window)
    return found


def storable(text: str) -> str:
    """Lone surrogates cannot be sent to any client."""
    return text.encode("utf-8", "replace").decode()


@given(lines=messages, limit=st.integers(1, 9))
def test_any_lines_come_back_in_pages_of_any_size(
    lines: list[tuple[str, int]], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = LogStore(tmp_path_factory.mktemp("logs"))
    write(store, lines)
    expected = [storable(text) for text, _ in lines]
    assert all_forward(store, limit) == expected
    assert all_backward(store, limit) == expected


@given(lines=messages, since=st.integers(0, 1200), until=st.integers(0, 1200))
def test_a_time_range_includes_its_start_and_excludes_its_end(
    lines: list[tuple[str, int]],
    since: int,
    until: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = LogStore(tmp_path_factory.mktemp("logs"))
    moments = write(store, lines)
    expected = [
        storable(text)
        for (text, _), moment in zip(lines, moments, strict=True)
        if since <= moment < until
    ]
    assert all_forward(store, 7, since=since, until=until) == expected
    assert all_backward(store, 7, since=since, until=until) == expected


@settings(max_examples=50, deadline=None)
@given(lines=messages, torn=st.integers(1, 40))
def test_a_line_torn_by_a_kill_is_not_seen_and_then_removed(
    lines: list[tuple[str, int]], torn: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("logs")
    store = LogStore(root)
    write(store, [*lines, ("the last line, which is cut short by the kill", 0)])
    (file,) = root.rglob("*.log")
    os.truncate(file, file.stat().st_size - torn)
    whole = [storable(text) for text, _ in lines]
    assert all_forward(store, 5) == whole
    write(store, [("next", 0)])
    assert all_forward(store, 5) == [*whole, "next"]


def test_events_are_readable_as_soon_as_they_are_written(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer(SCOPE, GROUP, STREAM)
    writer.write("one", 5)
    first = store.forward(SCOPE, GROUP, STREAM)
    writer.write("two", 6)
    second = store.forward(SCOPE, GROUP, STREAM, offset=first.end)
    assert [e.message for e in (*first.events, *second.events)] == ["one", "two"]


def test_timestamps_never_go_back_also_not_after_reopening(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    write(store, [("late", 500)])
    writer = store.writer(SCOPE, GROUP, STREAM)
    writer.write_all(["early"], 3)
    events = store.forward(SCOPE, GROUP, STREAM).events
    assert [event.timestamp for event in events] == [1500, 1500]


def test_a_page_holds_one_megabyte_and_always_one_event(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    big = "x" * (PAGE_BYTES // 2)
    write(store, [(big, 0), (big, 0), ("y" * 2 * PAGE_BYTES, 0), ("z", 0)])
    sizes = []
    page = LogPage((), 0, 0)
    while (page := store.forward(SCOPE, GROUP, STREAM, offset=page.end)).events:
        sizes.append([event.message[0] for event in page.events])
    assert sizes == [["x"], ["x"], ["y"], ["z"]]
    assert [e.message for e in store.backward(SCOPE, GROUP, STREAM).events] == ["z"]


def test_positions_are_the_boundaries_between_events(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    write(store, [("one", 0), ("two", 0)])
    ends = [event.end for event in store.forward(SCOPE, GROUP, STREAM).events]
    size = ends[-1]
    known = [at for at in range(-1, size + 2) if store.is_position(SCOPE, GROUP, STREAM, at)]
    assert known == [0, *ends]


def test_scopes_and_names_are_kept_apart(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    other = Scope("123456789012", "eu-west-1")
    for stream in ("b", "a.log", "a/ü"):
        store.writer(SCOPE, GROUP, stream).close()
    store.writer(other, "..", "..").close()
    assert store.stream_names(SCOPE, GROUP) == ["a.log", "a/ü", "b"]
    assert store.stream_names(SCOPE, GROUP, "a") == ["a.log", "a/ü"]
    assert [group.name for group in store.groups(SCOPE)] == [GROUP]
    assert [group.name for group in store.groups(other)] == [".."]
    assert store.groups(Scope("123456789012", "us-west-2")) == []


@pytest.mark.parametrize("name", ["nothing", "..", "a" * 500, "a\0b"])
def test_unknown_names_are_not_found(tmp_path: Path, name: str) -> None:
    store = LogStore(tmp_path)
    write(store, [("one", 0)])
    with pytest.raises(ResourceNotFound, match="log group does not exist"):
        store.stream_names(SCOPE, name)
    with pytest.raises(ResourceNotFound, match="log group does not exist"):
        store.forward(SCOPE, name, STREAM)
    with pytest.raises(ResourceNotFound, match="log stream does not exist"):
        store.forward(SCOPE, GROUP, name)


def test_a_stream_knows_its_first_and_last_event(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    write(store, [("one", 1), ("two", 2), ("three", 3)])
    write(store, [], "silent")
    full, silent = (store.stream(SCOPE, GROUP, name) for name in (STREAM, "silent"))
    assert (full.created, full.first, full.last) == (1001, 1001, 1006)
    assert (silent.first, silent.last) == (None, None)
    assert silent.created > 0


def test_a_page_of_a_long_stream_reads_only_its_own_part(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer(SCOPE, GROUP, STREAM)
    for moment in range(200):
        writer.write_all([f"{moment} {n}" for n in range(1000)], moment)
    page = store.forward(SCOPE, GROUP, STREAM, since=123, until=124, limit=10)
    assert [event.message for event in page.events] == [f"123 {n}" for n in range(10)]
    last = store.backward(SCOPE, GROUP, STREAM, until=124, limit=2)
    assert [event.message for event in last.events] == ["123 998", "123 999"]


def test_a_second_writer_neither_cuts_off_nor_outruns_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LogStore(tmp_path)
    first = store.writer(SCOPE, GROUP, STREAM)
    write_through = os.write

    def halfway(file: int, data: bytes) -> int:
        """Another one opens the stream while half a line is in it."""
        monkeypatch.setattr(os, "write", write_through)
        written = write_through(file, bytes(data[:8]))
        store.writer(SCOPE, GROUP, STREAM).close()
        return written

    monkeypatch.setattr(os, "write", halfway)
    first.write("whole", 2000)
    second = store.writer(SCOPE, GROUP, STREAM)
    second.write("later", 3000)
    first.write("last", 2500)
    events = store.forward(SCOPE, GROUP, STREAM).events
    assert [event.message for event in events] == ["whole", "later", "last"]
    assert [event.timestamp for event in events] == [2000, 3000, 3000]


def test_a_full_disk_costs_no_line_of_another_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LogStore(tmp_path)
    first, second = (store.writer(SCOPE, GROUP, STREAM) for _ in range(2))
    second.write("kept", 1)

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            first.write("lost", 2)
    assert [e.message for e in store.forward(SCOPE, GROUP, STREAM).events] == ["kept"]


def test_a_stream_that_is_made_again_has_a_file_of_its_own(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    old = store.writer(SCOPE, GROUP, STREAM)
    old.write("old", 5)
    store.path(SCOPE, GROUP, STREAM).unlink()
    new = store.writer(SCOPE, GROUP, STREAM)
    new.write("new", 1)
    old.close()
    new.write("newer", 2)
    events = store.forward(SCOPE, GROUP, STREAM).events
    assert [(event.message, event.timestamp) for event in events] == [("new", 1), ("newer", 2)]


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = LogStore(tmp_path).writer(SCOPE, GROUP, STREAM)
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="closed"):
        writer.write("x", 1)
