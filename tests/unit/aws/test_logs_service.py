from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services.logs import operations
from emulator.model.errors import ApiError
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import LogStore

SCOPE = Scope("123456789012", "us-east-1")
GROUP = "/aws/sagemaker/TrainingJobs"
OWNER = "arn:aws:logs:us-east-1:123456789012:log-group"
Ask = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path)


@pytest.fixture
def ask(store: LogStore) -> Ask:
    handlers = operations(store)

    def send(operation: str, **params: Any) -> Mapping[str, Any] | None:
        return handlers[operation](Call(SCOPE, params))

    return send


def write(store: LogStore, stream: str, *events: tuple[int, str], group: str = GROUP) -> None:
    writer = store.writer(SCOPE, group, stream)
    for timestamp, message in events:
        writer.write(message, timestamp)
    writer.close()


def refused(ask: Ask, operation: str, **params: Any) -> tuple[str, str]:
    with pytest.raises(ApiError) as refusal:
        ask(operation, **params)
    return refusal.value.code, refusal.value.message


def texts(answer: Mapping[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def test_groups(store: LogStore, ask: Ask) -> None:
    assert ask("DescribeLogGroups") == {"logGroups": []}
    write(store, "s", (1, "x"))
    write(store, "s", group="other")
    (group,) = ask("DescribeLogGroups", logGroupNamePrefix="/aws/")["logGroups"]
    assert group["logGroupName"] == GROUP
    assert group["arn"] == f"arn:aws:logs:us-east-1:123456789012:log-group:{GROUP}:*"
    assert group["storedBytes"] > 0
    names = [g["logGroupName"] for g in ask("DescribeLogGroups")["logGroups"]]
    assert names == [GROUP, "other"]
    found = ask("DescribeLogGroups", logGroupNamePattern="the")["logGroups"]
    assert [g["logGroupName"] for g in found] == ["other"]
    code, _ = refused(ask, "DescribeLogGroups", logGroupNamePrefix="a", logGroupNamePattern="b")
    assert code == "InvalidParameterException"


def test_groups_by_identifier_and_by_class(store: LogStore, ask: Ask) -> None:
    write(store, "s", (1, "x"))
    write(store, "s", group="other")

    def named(**params: Any) -> list[str]:
        return [group["logGroupName"] for group in ask("DescribeLogGroups", **params)["logGroups"]]

    assert named(logGroupIdentifiers=[f"{OWNER}:{GROUP}"]) == [GROUP]
    assert named(logGroupIdentifiers=["other", f"{OWNER}:{GROUP}"]) == [GROUP, "other"]
    assert named(logGroupIdentifiers=["nothing"]) == []
    assert named(logGroupClass="STANDARD") == [GROUP, "other"]
    assert named(logGroupClass="INFREQUENT_ACCESS") == []


@pytest.mark.parametrize("owner", ["us-east-1:999999999999", "eu-west-1:123456789012"])
def test_an_arn_of_elsewhere_names_nothing_here(store: LogStore, ask: Ask, owner: str) -> None:
    write(store, "s", (1, "x"))
    arn = f"arn:aws:logs:{owner}:log-group:{GROUP}"
    assert ask("DescribeLogGroups", logGroupIdentifiers=[arn])["logGroups"] == []
    reads = {
        "DescribeLogStreams": {},
        "FilterLogEvents": {},
        "GetLogEvents": {"logStreamName": "s"},
    }
    for operation, params in reads.items():
        assert ask(operation, logGroupIdentifier=f"{OWNER}:{GROUP}", **params)
        code, _ = refused(ask, operation, logGroupIdentifier=arn, **params)
        assert code == "ResourceNotFoundException"


def test_streams_come_in_pages_of_at_most_fifty(store: LogStore, ask: Ask) -> None:
    for number in range(120):
        write(store, f"job/algo-{number:03d}-1", (1000 - number, "x"))
    names: list[str] = []
    more: dict[str, str] = {}
    while True:
        answer = ask("DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix="job/", **more)
        assert len(answer["logStreams"]) <= 50
        names += [stream["logStreamName"] for stream in answer["logStreams"]]
        if "nextToken" not in answer:
            break
        more = {"nextToken": answer["nextToken"]}
    assert names == [f"job/algo-{number:03d}-1" for number in range(120)]


def test_streams_in_other_orders(store: LogStore, ask: Ask) -> None:
    write(store, "a", (30, "x"))
    write(store, "b", (10, "x"), (20, "y"))
    write(store, "silent")

    def ordered(**params: Any) -> list[str]:
        answer = ask("DescribeLogStreams", logGroupName=GROUP, limit=2, **params)
        rest = ask(
            "DescribeLogStreams",
            logGroupName=GROUP,
            nextToken=answer["nextToken"],
            **params,
        )
        return [s["logStreamName"] for s in (*answer["logStreams"], *rest["logStreams"])]

    assert ordered(descending=True) == ["silent", "b", "a"]
    assert ordered(orderBy="LastEventTime") == ["silent", "b", "a"]
    assert ordered(orderBy="LastEventTime", descending=True) == ["a", "b", "silent"]
    stream = ask("DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix="b")
    assert stream["logStreams"] == [
        {
            "logStreamName": "b",
            "creationTime": 10,
            "firstEventTimestamp": 10,
            "lastEventTimestamp": 20,
            "lastIngestionTime": 20,
            "arn": f"arn:aws:logs:us-east-1:123456789012:log-group:{GROUP}:log-stream:b",
            "storedBytes": 0,
        }
    ]
    code, text = refused(
        ask,
        "DescribeLogStreams",
        logGroupName=GROUP,
        orderBy="LastEventTime",
        logStreamNamePrefix="b",
    )
    assert code == "InvalidParameterException"
    assert text == "Cannot order by LastEventTime with a logStreamNamePrefix."


def test_the_forward_token_repeats_itself_at_the_end_and_then_goes_on(
    store: LogStore, ask: Ask
) -> None:
    write(store, "s", (1, "a"), (2, "b"))
    where = {"logGroupName": GROUP, "logStreamName": "s", "startFromHead": True}
    first = ask("GetLogEvents", **where)
    assert texts(first) == ["a", "b"]
    token = first["nextForwardToken"]
    assert token.startswith("f/")
    again = ask("GetLogEvents", **where, nextToken=token)
    assert (again["events"], again["nextForwardToken"]) == ([], token)
    write(store, "s", (3, "c"))
    assert texts(ask("GetLogEvents", **where, nextToken=token)) == ["c"]


def test_the_last_events_come_first_by_default(store: LogStore, ask: Ask) -> None:
    write(store, "s", *((n, str(n)) for n in range(1, 6)))
    where = {"logGroupName": GROUP, "logStreamName": "s", "limit": 2}
    page = ask("GetLogEvents", **where)
    assert texts(page) == ["4", "5"]
    page = ask("GetLogEvents", **where, nextToken=page["nextBackwardToken"])
    assert texts(page) == ["2", "3"]
    page = ask("GetLogEvents", **where, nextToken=page["nextBackwardToken"])
    assert texts(page) == ["1"]
    start = page["nextBackwardToken"]
    page = ask("GetLogEvents", **where, nextToken=start)
    assert (texts(page), page["nextBackwardToken"]) == ([], start)


def test_polling_from_the_last_timestamp_misses_and_repeats_nothing(
    store: LogStore, ask: Ask
) -> None:
    """What SDK v2 does: it starts each poll at the last time and skips what it has shown."""
    shown: list[str] = []
    since, skip = 0, 0
    for poll in range(4):
        write(store, "s", (poll, f"{poll}a"), (poll + 1, f"{poll}b"), (poll + 1, f"{poll}c"))
        more: dict[str, str] = {}
        seen = skip
        while True:
            answer = ask(
                "GetLogEvents",
                logGroupName=GROUP,
                logStreamName="s",
                startTime=since,
                startFromHead=True,
                limit=2,
                **more,
            )
            if not answer["events"]:
                break
            for event in answer["events"]:
                if seen:
                    seen -= 1
                    continue
                shown.append(event["message"])
                skip = skip + 1 if event["timestamp"] == since else 1
                since = event["timestamp"]
            more = {"nextToken": answer["nextForwardToken"]}
    assert shown == [f"{poll}{letter}" for poll in range(4) for letter in "abc"]


def test_the_end_of_a_range_is_out_for_one_and_in_for_the_other(store: LogStore, ask: Ask) -> None:
    write(store, "s", *((n, str(n)) for n in range(1, 6)))
    time_range = {"logGroupName": GROUP, "startTime": 2, "endTime": 4}
    assert texts(ask("GetLogEvents", logStreamName="s", **time_range)) == ["2", "3"]
    assert texts(ask("FilterLogEvents", **time_range)) == ["2", "3", "4"]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_filter_merges_streams_by_time(store: LogStore, ask: Ask, limit: int) -> None:
    write(store, "job/a", (1, "a1"), (3, "a3"), (3, "a3 again"), (9, "a9"))
    write(store, "job/b", (1, "b1"), (2, "b2"), (3, "b3"))
    write(store, "other/c", (2, "c2"))
    found: list[str] = []
    ids: set[str] = set()
    more: dict[str, str] = {}
    while True:
        answer = ask(
            "FilterLogEvents",
            logGroupName=GROUP,
            logStreamNamePrefix="job/",
            limit=limit,
            **more,
        )
        assert len(answer["events"]) <= limit
        found += texts(answer)
        ids |= {event["eventId"] for event in answer["events"]}
        if "nextToken" not in answer:
            break
        more = {"nextToken": answer["nextToken"]}
    assert found == ["a1", "b1", "b2", "a3", "a3 again", "b3", "a9"]
    assert len(ids) == len(found)


def test_filter_by_json_and_by_fields(store: LogStore, ask: Ask) -> None:
    messages = ['{"step": 1, "loss": 0.9}', '{"step": 2, "loss": 0.4}', "step 3 loss=0.1"]
    write(store, "a", *enumerate(messages))
    where = {"logGroupName": GROUP}
    for pattern, wanted in (
        ("{ $.loss < 0.5 || $.step = 1 }", messages[:2]),
        ("{ $.loss < 0.5 }", messages[1:2]),
        ("[word, number > 2, ...]", messages[2:]),
    ):
        assert texts(ask("FilterLogEvents", filterPattern=pattern, **where)) == wanted
    code, _ = refused(ask, "FilterLogEvents", filterPattern="{ $.loss }", **where)
    assert code == "InvalidParameterException"


def test_filter_by_pattern_and_names(store: LogStore, ask: Ask) -> None:
    write(store, "a", (1, "loss 0.5"), (2, "error: out of data"))
    write(store, "b", (1, "error: no file"))
    where = {"logGroupIdentifier": f"arn:aws:logs:us-east-1:123456789012:log-group:{GROUP}:*"}
    assert len(texts(ask("FilterLogEvents", filterPattern="error", **where))) == 2
    one = ask("FilterLogEvents", filterPattern='"no file"', **where)
    assert texts(one) == ["error: no file"]
    assert one["searchedLogStreams"] == []
    assert texts(ask("FilterLogEvents", logStreamNames=["a"], filterPattern="-error", **where)) == [
        "loss 0.5"
    ]
    code, text = refused(ask, "FilterLogEvents", filterPattern="%a.*b%", **where)
    assert code == "InvalidParameterException"
    assert "not built" in text


@pytest.mark.parametrize("operation", ["DescribeLogStreams", "GetLogEvents", "FilterLogEvents"])
def test_what_does_not_exist(store: LogStore, ask: Ask, operation: str) -> None:
    stream = {"logStreamName": "s"} if operation == "GetLogEvents" else {}
    assert refused(ask, operation, logGroupName=GROUP, **stream) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )
    assert refused(ask, operation, **stream)[0] == "InvalidParameterException"
    both = {"logGroupName": GROUP, "logGroupIdentifier": GROUP}
    assert refused(ask, operation, **both, **stream)[0] == "InvalidParameterException"


def test_an_unknown_stream(store: LogStore, ask: Ask) -> None:
    write(store, "s", (1, "x"))
    expected = ("ResourceNotFoundException", "The specified log stream does not exist.")
    assert refused(ask, "GetLogEvents", logGroupName=GROUP, logStreamName="t") == expected
    assert refused(ask, "FilterLogEvents", logGroupName=GROUP, logStreamNames=["t"]) == expected


@pytest.mark.parametrize("token", ["", "x", "f/1", "f/999999", "g/0", "f/-1", "W10=", "e30=", "é"])
def test_tokens_that_were_never_given_out(store: LogStore, ask: Ask, token: str) -> None:
    write(store, "s", (1, "x"))
    expected = ("InvalidParameterException", "The specified nextToken is invalid.")
    where = {"logGroupName": GROUP, "nextToken": token}
    assert refused(ask, "GetLogEvents", logStreamName="s", **where) == expected
    assert refused(ask, "FilterLogEvents", **where) == expected
