from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from emulator.data.objectstore.objects import Cancelled
from emulator.model.errors import InternalServerError
from emulator.model.faults import Fault, Kind
from emulator.model.plan import RuntimeTraits
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import training_job
from emulator.workloads.fault_book import FaultBook
from emulator.workloads.fault_injection import DisturbedInputs, DisturbedOutputs
from emulator.workloads.run.context import StagedInputs

TRAITS = RuntimeTraits("process", "lo", "http://127.0.0.1:4570")


def spec(*buckets: str) -> WorkloadSpec:
    request: dict[str, Any] = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://results/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
        "InputDataConfig": [
            {
                "ChannelName": bucket,
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/a"}
                },
            }
            for bucket in buckets
        ],
    }
    return training_job(request, Scope("123456789012", "us-east-1"))


class Transfers:
    """The real transfers' place, and a clock's: it notes what gets through and how late."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.done: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def check(self, spec: WorkloadSpec) -> None:
        """Nothing is wrong with it."""

    def stage(self, *_: object) -> StagedInputs:
        self.done.append(self.slept)
        return StagedInputs()

    def keep(self, *_: object) -> None:
        raise AssertionError("no fault is met there")

    def upload(self, *_: object) -> None:
        self.done.append(self.slept)


def stage(
    transfers: Transfers, job: WorkloadSpec, *faults: Fault, cancelled: Callable[[], bool] = bool
) -> None:
    inputs = DisturbedInputs(transfers, FaultBook(faults), transfers.sleep)
    inputs.stage(job, {}, TRAITS, lambda _: None, cancelled)


def test_nothing_is_lost_without_faults() -> None:
    transfers = Transfers()
    stage(transfers, spec("one", "two"))
    assert transfers.done == [0]


def test_each_channel_of_the_bucket_is_slow() -> None:
    transfers = Transfers()
    stage(
        transfers, spec("one", "two", "other"), Fault(Kind.SLOW_S3, bucket="[ot][nw]*", seconds=2)
    )
    assert transfers.done == [pytest.approx(4)]


def test_a_few_refusals_are_tried_again() -> None:
    transfers = Transfers()
    stage(transfers, spec("one"), Fault(Kind.SLOW_DOWN, times=3))
    assert transfers.done == [pytest.approx(0.2 + 0.4 + 0.8)]


def test_many_refusals_fail_the_job() -> None:
    transfers = Transfers()
    words = r"Data download failed:SlowDown \(503\): Please reduce your request rate\."
    with pytest.raises(InternalServerError, match=words):
        stage(transfers, spec("one"), Fault(Kind.SLOW_DOWN))
    outputs = DisturbedOutputs(transfers, FaultBook([Fault(Kind.SLOW_DOWN)]), transfers.sleep)
    with pytest.raises(InternalServerError, match="Artifact upload failed:SlowDown"):
        outputs.upload(spec(), {})
    assert transfers.done == []


def test_a_stop_is_not_kept_waiting() -> None:
    transfers = Transfers()
    with pytest.raises(Cancelled):
        stage(
            transfers,
            spec("one"),
            Fault(Kind.SLOW_S3, seconds=300),
            cancelled=lambda: transfers.slept > 1,
        )
    assert transfers.slept < 2
