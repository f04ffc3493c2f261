"""CloudWatch and SageMaker Metrics as boto3 meets them, on a real server and database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from fastapi import FastAPI
from http_server import serving

from emulator.aws.gateway import Gateway
from emulator.aws.services import cloudwatch, sagemaker_metrics
from emulator.database import Database
from emulator.settings import Settings
from emulator.telemetry.metrics.store import MIGRATIONS, MetricStore

START = datetime(2026, 1, 5, 12, 0, tzinfo=timezone.utc)
NOW = START.timestamp()
DIMENSIONS = [{"Name": "TrainingJobName", "Value": "job"}]
WINDOW = {"StartTime": START, "EndTime": START + timedelta(minutes=10)}
METRIC = {"Namespace": "ns", "MetricName": "loss", "Dimensions": DIMENSIONS}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    store = MetricStore(Database(tmp_path / "metrics.db", MIGRATIONS))
    services = {
        "cloudwatch": cloudwatch.operations(store, clock=lambda: NOW),
        "sagemaker-metrics": sagemaker_metrics.operations(store),
    }
    app = FastAPI()
    app.mount("/", Gateway(services, Settings()))
    with serving(app) as url:
        yield url


def client(service: str, endpoint: str, **options: Any) -> Any:
    return boto3.Session().client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="emulator",
        aws_secret_access_key="emulator-secret",
        config=Config(retries={"max_attempts": 0}, **options),
    )


@pytest.fixture(params=["json", "query"])
def watch(request: pytest.FixtureRequest, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3 as it is today, and as it was when CloudWatch spoke but the query protocol."""
    if request.param == "query":
        monkeypatch.setattr(ServiceModel, "resolved_protocol", "query")
        monkeypatch.setattr(ServiceModel, "protocol", "query")
    made = client("cloudwatch", endpoint)
    sent: list[str] = []
    made.meta.events.register(
        "before-send.cloudwatch",
        lambda request, **_: sent.append(request.headers["Content-Type"].decode()),
    )
    made.put_metric_data(Namespace="protocol", MetricData=[{"MetricName": "m", "Value": 1}])
    wanted = "json-1.0" if request.param == "json" else "x-www-form-urlencoded"
    assert wanted in sent[0]
    return made


def put(watch: Any, *values: tuple[float, float], name: str = "loss", **more: Any) -> None:
    """Values at so many seconds after START."""
    data = [
        {
            "MetricName": name,
            "Dimensions": DIMENSIONS,
            "Timestamp": START + timedelta(seconds=after),
            "Value": value,
            **more,
        }
        for after, value in values
    ]
    watch.put_metric_data(Namespace="ns", MetricData=data)


def statistics(watch: Any, *names: str, period: int = 60, **more: Any) -> list[dict[str, Any]]:
    answer = watch.get_metric_statistics(
        **{**METRIC, **WINDOW, "Period": period, "Statistics": list(names), **more}
    )
    points: list[dict[str, Any]] = answer["Datapoints"]
    return points


def refused(call: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refusal:
        call(**params)
    error = refusal.value.response["Error"]
    return error["Code"], error["Message"]


def test_statistics_of_periods(watch: Any) -> None:
    put(watch, (0, 4), (59.9, 2), (120, 9), (600, 100), (-0.1, 50))
    points = statistics(watch, "SampleCount", "Average", "Sum", "Minimum", "Maximum")
    assert points == [
        {
            "Timestamp": START,
            "SampleCount": 2.0,
            "Average": 3.0,
            "Sum": 6.0,
            "Minimum": 2.0,
            "Maximum": 4.0,
            "Unit": "None",
        },
        {
            "Timestamp": START + timedelta(minutes=2),
            "SampleCount": 1.0,
            "Average": 9.0,
            "Sum": 9.0,
            "Minimum": 9.0,
            "Maximum": 9.0,
            "Unit": "None",
        },
    ]
    [point] = statistics(watch, "Sum", period=600)
    assert (point["Timestamp"], point["Sum"]) == (START, 15.0)


def test_the_start_is_rounded_down_to_the_minute(watch: Any) -> None:
    put(watch, (0, 1))
    [point] = statistics(watch, "Sum", StartTime=START + timedelta(seconds=45))
    assert point["Timestamp"] == START
    assert not statistics(watch, "Sum", period=30, StartTime=START + timedelta(seconds=45))


def test_percentiles(watch: Any) -> None:
    put(watch, *((second, second) for second in range(10)))
    answer = watch.get_metric_statistics(
        **METRIC, **WINDOW, Period=60, ExtendedStatistics=["p50", "p99.9"]
    )
    assert answer["Label"] == "loss"
    [point] = answer["Datapoints"]
    assert point["ExtendedStatistics"] == {"p50": 4.0, "p99.9": 9.0}


def test_units_are_apart(watch: Any) -> None:
    put(watch, (0, 1))
    put(watch, (0, 2), Unit="Percent")
    both = {point["Unit"]: point["Sum"] for point in statistics(watch, "Sum")}
    assert both == {"None": 1.0, "Percent": 2.0}
    assert [point["Sum"] for point in statistics(watch, "Sum", Unit="Percent")] == [2.0]
    assert statistics(watch, "Sum", Unit="Bytes") == []


def test_sets_and_arrays_of_values(watch: Any) -> None:
    watch.put_metric_data(
        Namespace="ns",
        MetricData=[
            {
                "MetricName": "loss",
                "Dimensions": DIMENSIONS,
                "Values": [1.0, 2.0],
                "Counts": [1.0, 3.0],
            },
            {
                "MetricName": "loss",
                "Dimensions": DIMENSIONS,
                "StatisticValues": {"SampleCount": 2, "Sum": 10, "Minimum": 4, "Maximum": 6},
            },
        ],
    )
    [point] = statistics(watch, "SampleCount", "Sum", "Minimum", "Maximum")
    assert (point["SampleCount"], point["Sum"], point["Minimum"], point["Maximum"]) == (6, 17, 1, 6)


def test_much_data_comes_packed(watch: Any) -> None:
    put(watch, *((second, second) for second in range(500)))
    [point] = statistics(watch, "SampleCount", period=600)
    assert point["SampleCount"] == 500


def test_metric_data(watch: Any) -> None:
    put(watch, (0, 1), (60, 2), (120, 3))
    put(watch, (0, 10), name="accuracy")

    def query(name: str, metric: str, **more: Any) -> dict[str, Any]:
        wanted = {**METRIC, "MetricName": metric}
        return {
            "Id": name,
            "MetricStat": {"Metric": wanted, "Period": 60, "Stat": "Average"},
            **more,
        }

    queries = [query("a", "loss"), query("b", "accuracy", Label="B"), query("c", "none")]
    answer = watch.get_metric_data(MetricDataQueries=queries, **WINDOW)
    found = {result["Id"]: result for result in answer["MetricDataResults"]}
    assert [at - START for at in found["a"]["Timestamps"]] == [
        timedelta(minutes=2),
        timedelta(minutes=1),
        timedelta(0),
    ]
    assert found["a"]["Values"] == [3.0, 2.0, 1.0]
    assert (found["b"]["Label"], found["b"]["Values"]) == ("B", [10.0])
    assert (found["c"]["Label"], found["c"]["Values"]) == ("none", [])
    assert {result["StatusCode"] for result in found.values()} == {"Complete"}

    pages = watch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, ScanBy="TimestampAscending", MaxDatapoints=2, **WINDOW
    )
    values: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    sizes = []
    for page in pages:
        sizes.append(sum(len(result["Values"]) for result in page["MetricDataResults"]))
        for result in page["MetricDataResults"]:
            values[result["Id"]] += result["Values"]
    assert sizes == [2, 2]
    assert values == {"a": [1.0, 2.0, 3.0], "b": [10.0], "c": []}


def test_list(watch: Any) -> None:
    put(watch, (0, 1))
    put(watch, (0, 1), name="old")
    put(watch, (-10 * 3600, 1), name="older")

    def listed(**params: Any) -> list[str]:
        pages = watch.get_paginator("list_metrics").paginate(Namespace="ns", **params)
        return [metric["MetricName"] for page in pages for metric in page["Metrics"]]

    assert listed() == ["loss", "old", "older"]
    assert listed(MetricName="old") == ["old"]
    assert listed(Dimensions=[{"Name": "TrainingJobName"}]) == ["loss", "old", "older"]
    assert listed(Dimensions=[{"Name": "TrainingJobName", "Value": "other"}]) == []
    assert listed(RecentlyActive="PT3H") == ["loss", "old"]
    [metric] = watch.list_metrics(MetricName="old")["Metrics"]
    assert metric == {"Namespace": "ns", "MetricName": "old", "Dimensions": DIMENSIONS}


def test_a_long_list_comes_in_pages(watch: Any) -> None:
    for start in range(0, 600, 100):
        watch.put_metric_data(
            Namespace="many",
            MetricData=[
                {"MetricName": f"m{number}", "Value": 1} for number in range(start, start + 100)
            ],
        )
    first = watch.list_metrics(Namespace="many")
    assert len(first["Metrics"]) == 500
    rest = watch.list_metrics(Namespace="many", NextToken=first["NextToken"])
    assert "NextToken" not in rest
    names = [metric["MetricName"] for metric in (*first["Metrics"], *rest["Metrics"])]
    assert names == [f"m{number}" for number in range(600)]
    code, _ = refused(watch.list_metrics, NextToken="x")
    assert code == "InvalidNextToken"


def test_what_is_wrong_is_refused(watch: Any) -> None:
    ask = {**METRIC, **WINDOW, "Period": 60, "Statistics": ["Sum"]}
    call = watch.get_metric_statistics
    assert refused(call, **{**ask, "Period": 45})[0] == "InvalidParameterValue"
    assert refused(call, **{**ask, "EndTime": START}) == (
        "InvalidParameterValue",
        "The parameter StartTime must be less than the parameter EndTime.",
    )
    code, words = refused(call, **{**ask, "Period": 1, "EndTime": START + timedelta(hours=1)})
    assert code == "InvalidParameterCombination"
    assert "3,600 datapoints, which exceeds the limit of 1,440" in words
    del ask["Statistics"]
    assert refused(call, **ask)[0] == "InvalidParameterCombination"
    code, words = refused(call, **ask, ExtendedStatistics=["tm90"])
    assert code == "InvalidParameterValue"
    assert "tm90" in words


def test_expressions(watch: Any) -> None:
    put(watch, (0, 8), (60, 4), (180, 2))
    put(watch, (0, 1), (60, 3), name="best")
    stat = {"Metric": METRIC, "Period": 60, "Stat": "Average"}
    best = {"Metric": {**METRIC, "MetricName": "best"}, "Period": 60, "Stat": "Average"}
    queries = [
        {"Id": "halved", "Expression": "total / 2", "Label": "half"},
        {"Id": "m1", "MetricStat": stat, "ReturnData": False},
        {"Id": "m2", "MetricStat": best},
        {"Id": "total", "Expression": "SUM(METRICS())", "ReturnData": False},
        {"Id": "each", "Expression": "METRICS() * 10"},
    ]
    asked = {"MetricDataQueries": queries, "ScanBy": "TimestampAscending", **WINDOW}
    found = watch.get_metric_data(**asked)["MetricDataResults"]
    shown = [(one["Id"], one["Label"], one["Values"]) for one in found]
    assert shown == [
        ("halved", "half", [4.5, 3.5, 1.0]),
        ("m2", "best", [1.0, 3.0]),
        ("each", "each loss", [80.0, 40.0, 20.0]),
        ("each", "each best", [10.0, 30.0]),
    ]
    assert found[0]["Timestamps"] == [START + timedelta(minutes=n) for n in (0, 1, 3)]
    pages = watch.get_paginator("get_metric_data").paginate(
        **{**asked, "ScanBy": "TimestampDescending"}, PaginationConfig={"PageSize": 2}
    )
    values: dict[str, list[float]] = {}
    for one in (one for page in pages for one in page["MetricDataResults"]):
        values.setdefault(one["Label"], []).extend(one["Values"])
    assert values == {label: numbers[::-1] for _, label, numbers in shown}


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"Id": "e"}, "ValidationError", "either an Expression or a MetricStat"),
        ({"Id": "e", "Expression": "m1 +"}, "ValidationError", "Error in expression 'e'"),
        ({"Id": "e", "Expression": "2"}, "ValidationError", "time series"),
        ({"Id": "E", "Expression": "METRICS()"}, "ValidationError", "lowercase letter"),
        ({"Id": "e", "Expression": "SEARCH('x')"}, "NotImplementedException", "SEARCH"),
        ({"Id": "e", "Expression": "SELECT 1"}, "NotImplementedException", "Metrics Insights"),
    ],
)
def test_queries_that_make_no_sense(
    watch: Any, query: dict[str, Any], code: str, words: str
) -> None:
    refusal = refused(watch.get_metric_data, MetricDataQueries=[query], **WINDOW)
    assert refusal[0] == code
    assert words in refusal[1]


@pytest.mark.parametrize(
    "datum",
    [
        {},
        {"Value": 1e300},
        {"Values": [1.0], "Counts": [1.0, 2.0]},
        {"Values": [1.0], "Counts": [0.0]},
        {"StatisticValues": {"SampleCount": 0, "Sum": 1, "Minimum": 1, "Maximum": 1}},
        {"StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1}},
    ],
)
def test_data_that_is_none_is_refused_as_a_whole(watch: Any, datum: dict[str, Any]) -> None:
    data = [{"MetricName": "good", "Value": 1}, {"MetricName": "bad", **datum}]
    code, _ = refused(watch.put_metric_data, Namespace="ns", MetricData=data)
    assert code in ("InvalidParameterValue", "InvalidParameterCombination")
    assert watch.list_metrics(Namespace="ns")["Metrics"] == []


def test_not_a_number_gets_no_further(watch: Any) -> None:
    """The query protocol can say it; JSON cannot, and is not understood."""
    with pytest.raises(ClientError, match=r"InvalidParameterValue|SerializationException"):
        put(watch, (0, float("nan")))


def test_trial_components(endpoint: str) -> None:
    metrics = client("sagemaker-metrics", endpoint)
    answer = metrics.batch_put_metrics(
        TrialComponentName="job-aws-training-job",
        MetricData=[
            {
                "MetricName": "loss",
                "Timestamp": START + timedelta(seconds=step * 40),
                "Step": step,
                "Value": value,
            }
            for step, value in ((0, 4.0), (1, 2.0), (1, 3.0), (3, 1.0))
        ],
    )
    assert "Errors" not in answer
    arn = "arn:aws:sagemaker:us-east-1:123456789012:experiment-trial-component/job-aws-training-job"

    def ask(stat: str, period: str, axis: str, **more: Any) -> tuple[list[int], list[float]]:
        query = {
            "MetricName": "loss",
            "ResourceArn": arn,
            "MetricStat": stat,
            "Period": period,
            "XAxisType": axis,
            **more,
        }
        [result] = metrics.batch_get_metrics(MetricQueries=[query])["MetricQueryResults"]
        assert result["Status"] == "Complete"
        return result["XAxisValues"], result["MetricValues"]

    steps = ("IterationNumber", "IterationNumber")
    assert ask("Last", *steps) == ([0, 1, 3], [4.0, 3.0, 1.0])
    assert ask("Avg", *steps) == ([0, 1, 3], [4.0, 2.5, 1.0])
    assert ask("Count", *steps, Start=1, End=2) == ([1], [2.0])
    at = int(START.timestamp())
    assert ask("Max", "OneMinute", "Timestamp") == ([at, at + 120], [4.0, 1.0])
    query = {
        "MetricName": "loss",
        "ResourceArn": arn,
        "MetricStat": "Min",
        "Period": "OneMinute",
        "XAxisType": "IterationNumber",
    }
    [result] = metrics.batch_get_metrics(MetricQueries=[query])["MetricQueryResults"]
    assert result["Status"] == "ValidationError"


def test_a_trial_component_with_a_bad_name_is_refused(endpoint: str) -> None:
    metrics = client("sagemaker-metrics", endpoint)
    datum = {"MetricName": "m", "Timestamp": START, "Value": 1.0}
    code, words = refused(
        metrics.batch_put_metrics, TrialComponentName="No_Name", MetricData=[datum]
    )
    assert code == "ValidationException"
    assert "trialComponentName" in words


@pytest.mark.parametrize("owner", ["eu-west-1:123456789012", "us-east-1:111122223333"])
def test_values_of_elsewhere_are_not_shown(endpoint: str, owner: str) -> None:
    metrics = client("sagemaker-metrics", endpoint)
    datum = {"MetricName": "m", "Timestamp": NOW, "Value": 1.0}
    metrics.batch_put_metrics(TrialComponentName="trial", MetricData=[datum])
    query = {
        "MetricName": "m",
        "ResourceArn": f"arn:aws:sagemaker:{owner}:experiment-trial-component/trial",
        "MetricStat": "Last",
        "Period": "OneMinute",
        "XAxisType": "Timestamp",
    }
    [result] = metrics.batch_get_metrics(MetricQueries=[query])["MetricQueryResults"]
    assert (result["Status"], result["MetricValues"]) == ("ValidationError", [])
