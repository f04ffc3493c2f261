from __future__ import annotations

from datetime import datetime, timedelta, timezone

from emulator.cli.jobs import seconds_taken

CREATED = datetime(2026, 1, 1, tzinfo=timezone.utc)


def _after(seconds: float) -> datetime:
    return CREATED + timedelta(seconds=seconds)


def test_a_job_took_as_long_as_until_its_end() -> None:
    job = {"CreationTime": CREATED, "TrainingJobStatus": "Completed", "TrainingEndTime": _after(9)}
    assert seconds_taken(job, _after(100)) == 9


def test_a_job_that_runs_takes_until_now() -> None:
    job = {"CreationTime": CREATED, "TrainingJobStatus": "InProgress"}
    assert seconds_taken(job, _after(100)) == 100


def test_a_job_that_was_stopped_before_it_trained_takes_no_longer() -> None:
    job = {
        "CreationTime": CREATED,
        "TrainingJobStatus": "Stopped",
        "LastModifiedTime": _after(6),
    }
    assert seconds_taken(job, _after(100)) == 6
