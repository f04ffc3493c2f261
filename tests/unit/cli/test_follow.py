"""Reading a job's log from scripted answers of the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from emulator.cli.follow import Change, JobReader, Line, host_of
from emulator.cli.kinds import TRAINING
from emulator.cli.remote import Remote
from emulator.model.errors import ApiError

JOB, LOG_GROUP = "job-1", TRAINING.log_group
ONE, TWO = f"{JOB}/algo-1-1700000000", f"{JOB}/algo-2-1700000000"


class Scripted:
    """A service that is asked what the script says, in that order."""

    def __init__(self) -> None:
        self.script: list[tuple[str, dict[str, Any], dict[str, Any] | ApiError]] = []

    def add(self, operation: str, members: dict[str, Any], answer: Any) -> None:
        self.script.append((operation, members, answer))

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        expected, wanted, answer = self.script.pop(0)
        assert (operation, members) == (expected, wanted)
        if isinstance(answer, ApiError):
            raise answer
        return dict(answer)


@pytest.fixture
def clients() -> Iterator[tuple[Remote, Scripted, Scripted]]:
    answers, pages = Scripted(), Scripted()
    yield Remote("http://127.0.0.1:1", answers, pages), answers, pages
    assert not answers.script
    assert not pages.script


def streams(pages: Scripted, *names: str) -> None:
    asked = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{JOB}/"}
    half = len(names) // 2
    listed = [{"logStreamName": name} for name in names]
    if half:
        first = {"logStreams": listed[:half], "nextToken": "half"}
        pages.add("DescribeLogStreams", asked, first)
        asked = {**asked, "nextToken": "half"}
    pages.add("DescribeLogStreams", asked, {"logStreams": listed[half:]})


def events(
    pages: Scripted, stream: str, token: str, *lines: tuple[int, str], after: str = ""
) -> None:
    position = {"nextToken": after} if after else {}
    pages.add(
        "GetLogEvents",
        {"logGroupName": LOG_GROUP, "logStreamName": stream, "startFromHead": True, **position},
        {
            "events": [{"timestamp": at, "message": text} for at, text in lines],
            "nextForwardToken": token,
        },
    )


def description(status: str, secondary: str, message: str) -> dict[str, Any]:
    start = {"StartTime": 1, "StatusMessage": message}
    return {
        "TrainingJobName": JOB,
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job-1",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/k"},
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 1},
        "StoppingCondition": {},
        "CreationTime": 1,
        "SecondaryStatusTransitions": [{"Status": secondary, **start}],
    }


def described(*words: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return "DescribeTrainingJob", {"TrainingJobName": JOB}, description(*words)


def test_lines_of_all_instances_come_in_order_of_time(clients: Any) -> None:
    remote, _, pages = clients
    streams(pages, TWO, ONE)
    events(pages, ONE, "f/2", (10, "a"), (30, "c"))
    events(pages, ONE, "f/2", after="f/2")
    events(pages, TWO, "f/1", (20, "b"))
    events(pages, TWO, "f/1", after="f/1")
    assert JobReader(remote, JOB).lines() == [
        Line("algo-1", 10, "a"),
        Line("algo-2", 20, "b"),
        Line("algo-1", 30, "c"),
    ]


def test_each_line_is_read_once(clients: Any) -> None:
    remote, _, pages = clients
    reader = JobReader(remote, JOB)
    streams(pages, ONE)
    events(pages, ONE, "f/1", (10, "a"))
    events(pages, ONE, "f/1", after="f/1")
    streams(pages, ONE)
    events(pages, ONE, "f/2", (10, "b"), after="f/1")
    events(pages, ONE, "f/2", after="f/2")
    assert [line.text for line in reader.lines()] == ["a"]
    assert [line.text for line in reader.lines()] == ["b"]


def test_one_instance_alone(clients: Any) -> None:
    remote, _, pages = clients
    streams(pages, ONE, TWO)
    events(pages, TWO, "f/0")
    assert JobReader(remote, JOB, "algo-2").lines() == []


def test_no_log_group_yet_is_no_lines(clients: Any) -> None:
    remote, _, pages = clients
    asked = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{JOB}/"}
    absent = ApiError("The specified log group does not exist.", code="ResourceNotFoundException")
    pages.add("DescribeLogStreams", asked, absent)
    assert JobReader(remote, JOB).lines() == []


def test_following_ends_after_the_lines_of_the_terminal_status(clients: Any) -> None:
    remote, answers, pages = clients
    slept: list[float] = []
    answers.add(
        "DescribeTrainingJob",
        {"TrainingJobName": JOB},
        description("InProgress", "Training", "Runs"),
    )
    streams(pages)
    answers.add(
        "DescribeTrainingJob",
        {"TrainingJobName": JOB},
        description("InProgress", "Training", "Runs"),
    )
    streams(pages)
    answers.add(
        "DescribeTrainingJob",
        {"TrainingJobName": JOB},
        description("Completed", "Completed", "Done"),
    )
    streams(pages, ONE)
    events(pages, ONE, "f/1", (10, "last words"))
    events(pages, ONE, "f/1", after="f/1")
    *items, end = JobReader(remote, JOB).follow(slept.append)
    assert items == [
        Change("Training", "Runs"),
        Change("Completed", "Done"),
        Line("algo-1", 10, "last words"),
    ]
    assert end["TrainingJobStatus"] == "Completed"
    assert len(slept) == 2


def test_the_instance_of_a_stream() -> None:
    assert host_of("my-job-7/algo-12-1700000000") == "algo-12"
