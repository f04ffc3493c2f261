from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from emulator.model.errors import ResourceNotFound
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import LogStore
from emulator.web.logs import LINES, Logs, Place

SCOPE = Scope("123456789012", "us-east-1")
PLACE = Place(SCOPE, "/aws/sagemaker/TrainingJobs", "job/")
STREAM = "job/algo-1-17"


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    store = LogStore(tmp_path)
    for stream, lines in ((STREAM, 1200), ("other/algo-1-17", 3)):
        with closing(store.writer(SCOPE, PLACE.group, stream)) as writer:
            writer.write_all([f"line {number} of <{stream}>" for number in range(lines)], 1000)
    return Logs(store)


def test_the_streams_of_one_job_alone(logs: Logs) -> None:
    (found,) = logs.streams(PLACE)
    assert (found.instance, found.stream) == ("algo-1-17", STREAM)
    assert found.size > 1000
    assert logs.streams(Place(SCOPE, "/no/group")) == []


def test_windows_meet_at_their_offsets(logs: Logs) -> None:
    last = logs.lines(PLACE, STREAM)
    assert len(last.lines) == LINES
    assert last.end == last.size
    before = logs.lines(PLACE, STREAM, before=last.start)
    assert before.end == last.start
    again = logs.lines(PLACE, STREAM, after=before.end)
    assert again.lines == last.lines
    assert logs.lines(PLACE, STREAM, after=last.end).lines == []


def test_an_offset_within_a_line_leads_to_the_end(logs: Logs) -> None:
    assert logs.lines(PLACE, STREAM, after=3).end == logs.lines(PLACE, STREAM).end


def test_a_search_finds_lines_in_their_order(logs: Logs) -> None:
    found = logs.search(PLACE, STREAM, "LINE 119")
    assert [line.text.split()[1] for line in found.lines] == ["119", *map(str, range(1190, 1200))]
    assert found.end == found.size
    assert logs.search(PLACE, STREAM, "line 119", after=found.lines[0].end).lines == found.lines[1:]
    assert len(logs.search(PLACE, STREAM, "line").lines) == LINES


def test_all_lines_as_text(logs: Logs) -> None:
    text = "".join(logs.text(PLACE, STREAM))
    assert text.splitlines()[-1] == f"line 1199 of <{STREAM}>"
    assert len(text.splitlines()) == 1200


@pytest.mark.parametrize(
    "ask",
    [
        lambda logs: logs.lines(PLACE, "other/algo-1-17"),
        lambda logs: logs.lines(PLACE, "job/../other/algo-1-17"),
        lambda logs: logs.search(PLACE, "other/algo-1-17", "line"),
        lambda logs: logs.text(PLACE, "other/algo-1-17"),
        lambda logs: logs.lines(PLACE, "job/none"),
    ],
)
def test_no_streams_of_others(logs: Logs, ask: Callable[[Logs], object]) -> None:
    with pytest.raises(ResourceNotFound):
        ask(logs)
