from __future__ import annotations

from collections.abc import Mapping
from threading import Event, Thread
from typing import Any

import pytest

from emulator.cluster.capacity import Capacity, fixed_ports
from emulator.cluster.leases import Lease
from emulator.model.job import JobSpec
from emulator.model.scope import Scope

SECONDS = 10.0


def spec(name: str, instances: int = 1, parameters: Mapping[str, str] | None = None) -> JobSpec:
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances},
        "HyperParameters": dict(parameters or {}),
    }
    return JobSpec.from_request(request, Scope("123456789012", "us-east-1"))


class Applicant:
    """A job that asks for its lease in a thread of its own."""

    def __init__(self, capacity: Capacity, job: JobSpec):
        self.capacity = capacity
        self.cancelled, self.waits = Event(), Event()
        self.lease: Lease | None = None
        self._thread = Thread(target=self._apply, args=(job,), daemon=True)
        self._thread.start()

    def _apply(self, job: JobSpec) -> None:
        self.lease = self.capacity.acquire(job, self.cancelled, self.waits.set)

    def answer(self) -> Lease | None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        return self.lease


def test_jobs_that_need_nothing_alone_run_side_by_side() -> None:
    capacity = Capacity()
    applicants = [Applicant(capacity, spec(name)) for name in ("one", "two")]
    assert all(applicant.answer() for applicant in applicants)
    assert not any(applicant.waits.is_set() for applicant in applicants)


def test_the_others_wait_in_the_order_they_came() -> None:
    capacity = Capacity(lambda job: job.hyperparameters.values())
    needs = {"needs": "port"}
    first = Applicant(capacity, spec("first", parameters=needs)).answer()
    assert first
    second = Applicant(capacity, spec("second", parameters=needs))
    assert second.waits.wait(SECONDS)
    third = Applicant(capacity, spec("third", parameters=needs))
    assert third.waits.wait(SECONDS)
    assert Applicant(capacity, spec("other", parameters={"needs": "gpu"})).answer()
    capacity.release(first)
    lease = second.answer()
    assert lease
    assert third.lease is None
    capacity.release(lease)
    assert third.answer()


def test_a_job_that_is_cancelled_leaves_the_line() -> None:
    capacity = Capacity(lambda _: ["port"])
    first = Applicant(capacity, spec("first")).answer()
    assert first
    second = Applicant(capacity, spec("second"))
    assert second.waits.wait(SECONDS)
    third = Applicant(capacity, spec("third"))
    assert third.waits.wait(SECONDS)
    second.cancelled.set()
    capacity.wake()
    assert second.answer() is None
    capacity.release(first)
    assert third.answer()


@pytest.mark.parametrize(
    ("job", "listens"),
    [
        (spec("script"), False),
        (spec("hosts", instances=2), True),
        (spec("torchrun", parameters={"sagemaker_torch_distributed_enabled": "true"}), True),
        (spec("quoted", parameters={"sagemaker_mpi_enabled": '"True"'}), True),
        (spec("off", parameters={"sagemaker_torch_distributed_enabled": "false"}), False),
    ],
)
def test_launchers_listen_on_fixed_ports(job: JobSpec, listens: bool) -> None:
    assert bool(fixed_ports(job)) == listens
