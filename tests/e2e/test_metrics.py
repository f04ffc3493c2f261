"""What a job measures of itself and what is measured of it, as clients ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import IMAGE, log_lines, run, shell_request
from emulators import RunningEmulator, start_emulator
from test_sdks import run_script, said

NAMESPACE = "/aws/sagemaker/TrainingJobs"
LOSS = {"Name": "train:loss", "Regex": r"loss=([0-9\.]+);"}


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator that looks at its instances more often than once a minute."""
    home = tmp_path_factory.mktemp("measuring")
    settings = home / "settings.toml"
    settings.write_text("system_metrics_seconds = 1\n")
    running = start_emulator(home / "state", "--config", str(settings))
    yield running
    running.end()


@pytest.fixture(scope="module")
def own_bucket(measuring: RunningEmulator) -> str:
    measuring.client("s3").create_bucket(Bucket="measured")
    return "measured"


def with_metrics(body: dict[str, Any], *definitions: dict[str, str]) -> dict[str, Any]:
    body["AlgorithmSpecification"] |= {"MetricDefinitions": list(definitions)}
    return body


def statistics(
    emulator: RunningEmulator, job: dict[str, Any], name: str, dimension: tuple[str, str], stat: str
) -> list[float]:
    answer = emulator.client("cloudwatch").get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=name,
        Dimensions=[{"Name": dimension[0], "Value": dimension[1]}],
        StartTime=job["TrainingStartTime"],
        EndTime=job["TrainingEndTime"] + timedelta(minutes=1),
        Period=60,
        Statistics=[stat],
    )
    return [point[stat] for point in answer["Datapoints"]]


def test_the_log_becomes_metrics(measuring: RunningEmulator, own_bucket: str) -> None:
    command = (
        "for i in $(seq 1 2000); do echo \"epoch $i loss=$i.3;\"; done;printf 'accuracy: 0.0036 %%'"
    )
    accuracy = {"Name": "accuracy", "Regex": r"accuracy: (\S+)"}
    unheard = {"Name": "unheard", "Regex": "never (.*)"}
    body = with_metrics(shell_request(own_bucket, command, instances=2), LOSS, accuracy, unheard)
    job = run(measuring.client("sagemaker"), body)
    # Single precision, widened, and whole seconds, as seen from the service.
    final = {metric["MetricName"]: metric for metric in job["FinalMetricDataList"]}
    assert {name: metric["Value"] for name, metric in final.items()} == {
        "train:loss": 2000.300048828125,
        "accuracy": 0.003599999938160181,
    }
    assert all(metric["Timestamp"].microsecond == 0 for metric in final.values())
    # All of them are there as soon as the job has ended.
    own = ("TrainingJobName", job["TrainingJobName"])
    assert sum(statistics(measuring, job, "train:loss", own, "SampleCount")) == 4000
    assert min(statistics(measuring, job, "train:loss", own, "Minimum")) == 1.2999999523162842
    assert statistics(measuring, job, "unheard", own, "Sum") == []
    listed = measuring.client("cloudwatch").list_metrics(
        Namespace=NAMESPACE, Dimensions=[{"Name": own[0], "Value": own[1]}]
    )
    assert {metric["MetricName"] for metric in listed["Metrics"]} == {"train:loss", "accuracy"}


def test_instances_are_measured(measuring: RunningEmulator, own_bucket: str) -> None:
    burn = "timeout 4 sh -c 'while :; do :; done'"
    body = shell_request(
        own_bucket,
        f'if [ "$(hostname)" = algo-1 ]; then {burn}; else sleep 4; fi; true',
        instances=2,
    )
    job = run(measuring.client("sagemaker"), body)
    hosts = {host: ("Host", f"{job['TrainingJobName']}/{host}") for host in ("algo-1", "algo-2")}
    cpu = {
        host: max(statistics(measuring, job, "CPUUtilization", dimension, "Maximum"))
        for host, dimension in hosts.items()
    }
    assert cpu["algo-1"] > 10
    assert cpu["algo-2"] < cpu["algo-1"] / 2
    for dimension in hosts.values():
        for name in ("MemoryUtilization", "DiskUtilization"):
            # One a minute: a job may see the end of one.
            shares = statistics(measuring, job, name, dimension, "Average")
            assert shares
            assert all(0 < share <= 100 for share in shares)
    assert "FinalMetricDataList" not in job


def test_a_bad_expression_is_refused(measuring: RunningEmulator, own_bucket: str) -> None:
    sagemaker = measuring.client("sagemaker")
    body = with_metrics(shell_request(own_bucket, "true"), {"Name": "m", "Regex": "loss=(.*"})
    with pytest.raises(sagemaker.exceptions.ClientError) as refusal:
        sagemaker.create_training_job(**body)
    error = refusal.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert "'loss=(.*' of metric 'm' is invalid" in error["Message"]


def test_a_catastrophic_expression_harms_only_itself(
    measuring: RunningEmulator, own_bucket: str
) -> None:
    bait = "word " * 40
    command = f"for i in $(seq 1 50); do echo '{bait}'; echo \"loss=$i;\"; done"
    slow = {"Name": "slow", "Regex": r"(\w+\s?)+:(\d+)$"}
    job = run(
        measuring.client("sagemaker"), with_metrics(shell_request(own_bucket, command), slow, LOSS)
    )
    assert job["TrainingJobStatus"] == "Completed"
    [metric] = job["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("train:loss", 50)
    lines = log_lines(measuring.client("logs"), job["TrainingJobName"])
    assert sum(line.startswith("loss=") for line in lines) == 50
    assert (
        "The regular expression of metric slow takes too long; it is not applied any more." in lines
    )


@pytest.mark.sdk
@pytest.mark.timeout(1200)
def test_sdk_v2_analytics(sdk_v2: Path, measuring: RunningEmulator, own_bucket: str) -> None:
    output = run_script(sdk_v2, measuring, "analytics_v2.py", own_bucket, IMAGE)
    rows = json.loads(said(output, "ROWS"))
    assert {row["metric_name"] for row in rows} == {"train:loss"}
    assert min(row["timestamp"] for row in rows) == 0
    # Averages of 1, 2 and 3, by the minutes in which they were printed.
    assert all(1 <= row["value"] <= 3 for row in rows)
