from __future__ import annotations

import pytest

from emulator.model.faults import Chance, Fault, Kind, Stage, read_fault
from emulator.model.scope import Scope
from emulator.resources.training import training_job
from emulator.workloads.fault_book import FaultBook, JobFaults

REQUEST = {
    "TrainingJobName": "job-1",
    "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
}
SPEC = training_job(REQUEST, Scope("123456789012", "us-east-1"))
SPOT = training_job(
    {**REQUEST, "EnableManagedSpotTraining": True}, Scope("123456789012", "us-east-1")
)


def test_a_fault_of_jobs_happens_once_to_each_job() -> None:
    book = FaultBook([Fault(Kind.CAPACITY_ERROR, id="full")])
    assert JobFaults(book, SPEC).at(Kind.CAPACITY_ERROR)
    assert JobFaults(book, SPEC).at(Kind.CAPACITY_ERROR) is None
    other = Chance(Kind.CAPACITY_ERROR, job="job-2")
    assert book.strike(other)
    assert book.listing()[0]["taken"] == 2


def test_each_attempt_gives_a_fault_one_chance() -> None:
    book = FaultBook([Fault(Kind.SPOT_INTERRUPTION, after_seconds=30, times=2)])
    for taken in (1, 2):
        attempt = JobFaults(book, SPOT)
        assert attempt.during_training(29.9) is None
        assert attempt.during_training(30.0) is not None
        assert attempt.during_training(90.0) is None
        assert book.listing()[0]["taken"] == taken
    assert JobFaults(book, SPOT).during_training(99) is None


def test_jobs_on_demand_are_not_interrupted() -> None:
    book = FaultBook([Fault(Kind.SPOT_INTERRUPTION)])
    assert JobFaults(book, SPEC).during_training(1) is None


def test_a_draw_that_is_lost_is_not_repeated_in_the_same_attempt() -> None:
    book = FaultBook([Fault(Kind.INSTANCE_FAILURE, rate=0.5, times=1000, seed=3)])
    happened = [JobFaults(book, SPEC).during_training(1) is not None for _ in range(200)]
    assert 60 < sum(happened) < 140
    attempt = JobFaults(book, SPEC)
    assert sum(attempt.during_training(t) is not None for t in range(100)) <= 1


def test_stages() -> None:
    book = FaultBook([Fault(Kind.INTERNAL_SERVER_ERROR, stage=Stage.DOWNLOADING)])
    attempt = JobFaults(book, SPEC)
    assert attempt.at(Kind.INTERNAL_SERVER_ERROR, Stage.STARTING) is None
    assert attempt.during_training(100) is None
    assert attempt.at(Kind.INTERNAL_SERVER_ERROR, Stage.DOWNLOADING)


def test_adding_and_removing() -> None:
    book = FaultBook()
    added = book.add(Fault(Kind.THROTTLING))
    assert added.id
    assert [fault["kind"] for fault in book.listing()] == ["ThrottlingException"]
    with pytest.raises(ValueError, match=added.id):
        book.add(added)
    assert book.remove(added.id)
    assert not book.remove(added.id)
    book.add(added)
    book.clear()
    assert book.listing() == []
    assert book.strike(Chance(Kind.THROTTLING)) is None


def test_reading_json() -> None:
    read = read_fault({"kind": "SpotInterruption", "job": "my-*", "after_seconds": 30})
    assert read == Fault(Kind.SPOT_INTERRUPTION, job="my-*", after_seconds=30)
    for wrong, text in (
        ({}, "kind"),
        ({"kind": "Earthquake"}, "SpotInterruption"),
        ({"kind": "SlowS3", "secnds": 3}, "secnds"),
        ({"kind": "SlowS3", "rate": 2}, "rate must be from 0 to 1"),
        ({"kind": "SlowS3", "seconds": "long"}, "seconds"),
    ):
        with pytest.raises(ValueError, match=text):
            read_fault(wrong)
