"""Reading a job's log: recorded answers of the service, played through botocore's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.stub import Stubber

from emulator.cli.follow import Change, JobReader, Line, host_of
from emulator.cli.remote import LOG_GROUP, Remote

JOB = "job-1"
ONE, TWO = f"{JOB}/algo-1-1700000000", f"{JOB}/algo-2-1700000000"


@pytest.fixture
def clients() -> Iterator[tuple[Remote, Stubber, Stubber]]:
    session = botocore.session.Session()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    sagemaker, logs = (session.create_client(name, **keys) for name in ("sagemaker", "logs"))
    with Stubber(sagemaker) as answers, Stubber(logs) as pages:
        yield Remote("http://127.0.0.1:1", sagemaker, logs), answers, pages
        answers.assert_no_pending_responses()
        pages.assert_no_pending_responses()


def streams(pages: Stubber, *names: str) -> None:
    pages.add_response(
        "describe_log_streams",
        {"logStreams": [{"logStreamName": name} for name in names]},
        {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{JOB}/"},
    )


def events(
    pages: Stubber, stream: str, token: str, *lines: tuple[int, str], after: str = ""
) -> None:
    position = {"nextToken": after} if after else {}
    pages.add_response(
        "get_log_events",
        {
            "events": [{"timestamp": at, "message": text} for at, text in lines],
            "nextForwardToken": token,
        },
        {"logGroupName": LOG_GROUP, "logStreamName": stream, "startFromHead": True, **position},
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
    pages.add_client_error("describe_log_streams", "ResourceNotFoundException")
    assert JobReader(remote, JOB).lines() == []


def test_following_ends_after_the_lines_of_the_terminal_status(clients: Any) -> None:
    remote, answers, pages = clients
    slept: list[float] = []
    answers.add_response("describe_training_job", description("InProgress", "Training", "Runs"))
    streams(pages)
    answers.add_response("describe_training_job", description("InProgress", "Training", "Runs"))
    streams(pages)
    answers.add_response("describe_training_job", description("Completed", "Completed", "Done"))
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
