"""What scripts write to CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services import log_writes, logs
from emulator.model.errors import ApiError
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import LogStore

SCOPE = Scope("123456789012", "us-east-1")
NOW = 1_700_000_000.0
MS = int(NOW * 1000)
DAY = 24 * 3600 * 1000
WHERE = {"logGroupName": "/mine", "logStreamName": "a/b"}
Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    store = LogStore(tmp_path)
    handlers = {**logs.operations(store), **log_writes.operations(store, clock=lambda: NOW)}
    return lambda operation, **params: handlers[operation](Call(SCOPE, params))


def refused(ask: Ask, operation: str, **params: Any) -> tuple[str, str]:
    with pytest.raises(ApiError) as refusal:
        ask(operation, **params)
    return refusal.value.code, refusal.value.message


def event(timestamp: int, message: str = "x") -> dict[str, Any]:
    return {"timestamp": timestamp, "message": message}


@pytest.fixture
def stream(ask: Ask) -> None:
    ask("CreateLogGroup", logGroupName="/mine")
    ask("CreateLogStream", **WHERE)


@pytest.mark.usefixtures("stream")
def test_events_come_back(ask: Ask) -> None:
    sent = [event(MS, "one\ntwo"), event(MS + 1, "ü")]
    answer = ask("PutLogEvents", **WHERE, logEvents=sent)
    assert answer["rejectedLogEventsInfo"] is None
    ask("PutLogEvents", **WHERE, logEvents=[event(MS + 2, "three")], sequenceToken="0")
    events = ask("GetLogEvents", **WHERE, startFromHead=True)["events"]
    assert [(e["timestamp"] - MS, e["message"]) for e in events] == [
        (0, "one\ntwo"),
        (1, "ü"),
        (2, "three"),
    ]


@pytest.mark.usefixtures("stream")
def test_events_of_impossible_times_are_rejected(ask: Ask) -> None:
    old, new = MS - 14 * DAY - 1, MS + DAY
    answer = ask("PutLogEvents", **WHERE, logEvents=[event(old), event(old)])
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
    answer = ask("PutLogEvents", **WHERE, logEvents=[event(MS), event(new)])
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}
    assert len(ask("GetLogEvents", **WHERE)["events"]) == 1


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([event(MS + 1), event(MS)], "chronological order"),
        ([event(MS), event(MS + DAY + 1)], "24 hours"),
        ([event(MS, "x" * 1_048_576)], "Upload too large: 1048602 bytes exceeds limit of 1048576"),
    ],
)
def test_batches_that_are_refused(ask: Ask, events: Any, words: str) -> None:
    code, message = refused(ask, "PutLogEvents", **WHERE, logEvents=events)
    assert code == "InvalidParameterException"
    assert words in message


@pytest.mark.usefixtures("stream")
def test_what_exists_cannot_be_made_again(ask: Ask) -> None:
    code, text = refused(ask, "CreateLogGroup", logGroupName="/mine")
    assert (code, text) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    assert refused(ask, "CreateLogStream", **WHERE)[0] == "ResourceAlreadyExistsException"
    assert refused(ask, "CreateLogGroup", logGroupName="/" * 400)[0] == "InvalidParameterException"


@pytest.mark.usefixtures("stream")
def test_what_is_deleted_is_gone(ask: Ask) -> None:
    ask("DeleteLogStream", **WHERE)
    assert ask("DescribeLogStreams", logGroupName="/mine")["logStreams"] == []
    ask("DeleteLogGroup", logGroupName="/mine")
    assert ask("DescribeLogGroups")["logGroups"] == []


@pytest.mark.parametrize("operation", ["CreateLogStream", "DeleteLogStream", "PutLogEvents"])
def test_nothing_is_written_to_what_does_not_exist(ask: Ask, operation: str) -> None:
    more = {"logEvents": [event(MS)]} if operation == "PutLogEvents" else {}
    assert refused(ask, operation, **WHERE, **more) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )
    ask("CreateLogGroup", logGroupName="/mine")
    if operation != "CreateLogStream":
        assert refused(ask, operation, **WHERE, **more)[1] == (
            "The specified log stream does not exist."
        )


@pytest.mark.usefixtures("stream")
def test_names_too_long_for_the_disk_do_not_exist(ask: Ask) -> None:
    long = "x" * 512
    for where in (
        {"logGroupName": long, "logStreamName": "s"},
        {**WHERE, "logStreamName": long},
    ):
        code, _ = refused(ask, "PutLogEvents", **where, logEvents=[event(MS)])
        assert code == "ResourceNotFoundException"


@pytest.mark.usefixtures("stream")
def test_a_retention_is_shown(ask: Ask) -> None:
    def shown() -> Any:
        return ask("DescribeLogGroups")["logGroups"][0]["retentionInDays"]

    assert shown() is None
    ask("PutRetentionPolicy", logGroupName="/mine", retentionInDays=7)
    assert shown() == 7
    ask("DeleteRetentionPolicy", logGroupName="/mine")
    assert shown() is None
    assert refused(ask, "PutRetentionPolicy", logGroupName="no", retentionInDays=1)[0] == (
        "ResourceNotFoundException"
    )
    code, words = refused(ask, "PutRetentionPolicy", logGroupName="/mine", retentionInDays=2)
    assert (code, "1, 3, 5, 7" in words) == ("InvalidParameterException", True)
    assert shown() is None
