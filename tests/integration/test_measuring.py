"""A job's measurements with a real database and a real search; only the fleet is a clock."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.database import Database
from emulator.drivers.base import Usage
from emulator.model.plan import InstancePlan, JobPlan
from emulator.model.scope import Scope
from emulator.model.workload import InstanceGroup, WorkloadSpec
from emulator.resources.training import TRAINING, training_job
from emulator.telemetry.logs.collector import job_lines
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MIGRATIONS, MetricStore, Series, SeriesQuery
from emulator.workloads.run.clock import Clock
from emulator.workloads.run.measuring import JobMetrics, dimensions

SCOPE = Scope("123456789012", "us-east-1")
NAMESPACE = TRAINING.log_group
ONE = (InstanceGroup("homogeneousCluster", "ml.m5.xlarge", 1),)
LOSS = {"Name": "loss", "Regex": r"loss=(\S+)"}


def job(*definitions: dict[str, str]) -> WorkloadSpec:
    request: dict[str, Any] = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "MetricDefinitions": list(definitions),
        },
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
    }
    return training_job(request, SCOPE)


class BusyFleet:
    """Two instances: one works without end, the other has ended after the first look."""

    def __init__(self) -> None:
        self.looks = 0

    def usage(self) -> Mapping[str, Usage]:
        self.looks += 1
        busy = Usage(2.0 * self.looks, 250, 1000)
        return {"algo-1": busy, "algo-2": Usage(0, 1, 10)} if self.looks == 1 else {"algo-1": busy}

    def next_exit(self, timeout: float) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


def plan(scratch: Path) -> JobPlan:
    one = InstancePlan("algo-1", None, None, (), {}, (), scratch)
    return JobPlan("job", "arn", (one, replace(one, host="algo-2")))


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(Database(tmp_path / "metrics.db", MIGRATIONS))


Measure = Callable[..., JobMetrics]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def measure(store: MetricStore, said: list[str]) -> Measure:
    # A second passes with every look at the clock.
    clock = Clock(monotonic=map(float, itertools.count()).__next__)

    def start(*definitions: dict[str, str], every: float = 60) -> JobMetrics:
        return JobMetrics(store, job(*definitions), clock, every, said.append)

    return start


def last(store: MetricStore) -> dict[str, float]:
    found = store.last(SCOPE, NAMESPACE, dimensions(job()), 0)
    return {name: sample.maximum for name, sample in found.items()}


def test_values_are_kept_by_the_time_of_the_end(
    store: MetricStore, measure: Measure, said: list[str]
) -> None:
    metrics = measure(LOSS)
    metrics.feed("algo-1", b"loss=3\nloss=2\nlo")
    metrics.feed("algo-1", b"ss=1")
    metrics.close()
    metrics.close()
    metrics.feed("algo-1", b"loss=9\n")  # too late, and no error
    metrics.finish("algo-1")
    # The last line had no end, and nobody said that the instance had ended.
    assert last(store) == {"loss": 2.0}
    assert said == []


def test_a_collector_shows_its_output_and_waits_for_the_values(
    tmp_path: Path, store: MetricStore, measure: Measure
) -> None:
    logs = LogStore(tmp_path / "logs")
    lines = job_lines(logs, replace(job(), groups=ONE), lambda: 1_763_856_000.5)
    lines.observe(measure(LOSS, {"Name": "slow", "Regex": r"(\w+\s?)+:(\d+)$"}))
    lines.feed("algo-1", b"\tloss=3")
    lines.feed("algo-1", b"\n\tloss=0.5")
    lines.close()
    assert last(store) == {"loss": 0.5}
    page = logs.forward(SCOPE, NAMESPACE, "job/algo-1-1763856000")
    assert [event.message for event in page.events] == ["#011loss=3", "#011loss=0.5"]


def test_a_definition_that_is_too_slow_is_named_in_the_log(
    measure: Measure, said: list[str]
) -> None:
    metrics = measure({"Name": "slow", "Regex": r"(\w+\s?)+:(\d+)$"})
    for _ in range(20):
        metrics.feed("algo-1", b"word " * 40 + b"\n")
    metrics.close()
    assert said == [
        "The regular expression of metric slow takes too long; it is not applied any more."
    ]


def test_instances_are_looked_at_until_the_end(
    tmp_path: Path, store: MetricStore, measure: Measure
) -> None:
    metrics, fleet = measure(every=0.05), BusyFleet()
    metrics.follow(fleet, plan(tmp_path))  # type: ignore[arg-type]
    deadline = time.monotonic() + 60
    while fleet.looks < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    metrics.close()
    assert "usage" not in {thread.name for thread in threading.enumerate()}
    found = {series.name for _, series in store.series(SCOPE, SeriesQuery(NAMESPACE), 0, 100)}
    assert found == {"CPUUtilization", "MemoryUtilization", "DiskUtilization"}

    def values(name: str, host: str) -> list[float]:
        series = Series(NAMESPACE, name, (("Host", f"job/{host}"),), "Percent")
        samples = store.samples(SCOPE, series, False, 0, 1e12).get("Percent", [])
        return [sample.maximum for sample in samples]

    # 100 for each processor: this instance keeps two of them busy.
    assert set(values("CPUUtilization", "algo-1")) == {200.0}
    assert set(values("MemoryUtilization", "algo-1")) == {25.0}
    assert values("MemoryUtilization", "algo-2") == []
