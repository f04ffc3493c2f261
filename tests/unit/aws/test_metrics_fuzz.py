"""Whatever CloudWatch and SageMaker Metrics are sent, they answer, or call it an error."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.aws.gateway import Gateway
from emulator.aws.services import cloudwatch, sagemaker_metrics
from emulator.aws.signatures import Signer
from emulator.aws.wire.http import HttpRequest
from emulator.database import Database
from emulator.settings import Settings
from emulator.telemetry.metrics.store import MIGRATIONS, MetricStore

NOW = 1_700_000_000.0
DIMENSIONS = [{"Name": "Host", "Value": "job/algo-1"}]
METRIC = {"Namespace": "ns", "MetricName": "loss", "Dimensions": DIMENSIONS}
WINDOW = {"StartTime": NOW - 600, "EndTime": NOW + 600}
STATISTIC = {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}
VALID: dict[str, dict[str, Any]] = {
    "PutMetricData": {
        "Namespace": "ns",
        "MetricData": [
            {**METRIC, "Timestamp": NOW, "Values": [1.5, 2], "Counts": [1, 2], "Unit": "Percent"},
            {"MetricName": "loss", "Dimensions": DIMENSIONS, "StatisticValues": STATISTIC},
            {"MetricName": "loss", "Value": 1, "StorageResolution": 60},
        ],
    },
    "ListMetrics": {**METRIC, "RecentlyActive": "PT3H", "NextToken": "MQ=="},
    "GetMetricStatistics": {
        **METRIC,
        **WINDOW,
        "Period": 60,
        "Statistics": ["Sum"],
        "ExtendedStatistics": ["p90"],
        "Unit": "Percent",
    },
    "GetMetricData": {
        **WINDOW,
        "MetricDataQueries": [
            {
                "Id": "a",
                "MetricStat": {"Metric": METRIC, "Period": 60, "Stat": "p50", "Unit": "None"},
                "ReturnData": True,
            },
            {"Id": "b", "MetricStat": {"Metric": METRIC, "Period": 5, "Stat": "Average"}},
        ],
        "MaxDatapoints": 10,
        "NextToken": "MQ==",
        "ScanBy": "TimestampAscending",
    },
    "BatchPutMetrics": {
        "TrialComponentName": "job-aws-training-job",
        "MetricData": [{"MetricName": "loss", "Timestamp": NOW, "Step": 3, "Value": 0.5}],
    },
    "BatchGetMetrics": {
        "MetricQueries": [
            {
                "MetricName": "loss",
                "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:"
                "experiment-trial-component/job-aws-training-job",
                "MetricStat": "Avg",
                "Period": "OneMinute",
                "XAxisType": "Timestamp",
                "Start": 0,
                "End": 2_000_000_000,
            }
        ]
    },
}
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [0, -1, 10**30, 10**400, 1e308, -1e308, 2**63, 0.1, -62_135_596_800, 253_402_300_799]
    ),
    st.text(max_size=10),
    st.sampled_from(["p100", "p0.", "MQ==", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "\0"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every member of a document."""
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    store = MetricStore(Database(tmp_path_factory.mktemp("fuzz") / "metrics.db", MIGRATIONS))
    services = {
        "cloudwatch": cloudwatch.operations(store, clock=lambda: NOW),
        "sagemaker-metrics": sagemaker_metrics.operations(store),
    }

    return Gateway(services, Settings())


def asked(gateway: Gateway, operation: str, body: bytes) -> int:
    if operation.startswith("Batch"):
        method = "PUT" if operation == "BatchPutMetrics" else "POST"
        request = HttpRequest(method, f"/{operation}", "", {}, body)
        signer = Signer("key", "us-east-1", "sagemaker")
    else:
        target = {"x-amz-target": f"GraniteServiceVersion20100801.{operation}"}
        request = HttpRequest("POST", "/", "", target, body)
        signer = Signer("key", "us-east-1", "monitoring")
    reply = gateway.answer(request, signer)
    assert reply.status in (200, 400, 501), reply.body
    return reply.status


@pytest.mark.parametrize("operation", VALID)
def test_the_requests_are_valid(gateway: Gateway, operation: str) -> None:
    assert asked(gateway, operation, json.dumps(VALID[operation]).encode()) == 200


@given(
    operation=st.sampled_from(list(VALID)),
    picks=st.lists(st.tuples(st.integers(0, 1000), anything), min_size=1, max_size=3),
)
def test_a_valid_request_with_anything_in_it(
    gateway: Gateway, operation: str, picks: list[tuple[int, Any]]
) -> None:
    request = copy.deepcopy(VALID[operation])
    for number, value in picks:
        paths = places(request)
        if not paths:
            continue
        *way, last = paths[number % len(paths)]
        place: Any = request
        for step in way:
            place = place[step]
        place[last] = value
    asked(gateway, operation, json.dumps(request).encode())


@given(operation=st.sampled_from([*VALID, "Nothing"]), body=st.binary(max_size=50))
def test_anything_at_all(gateway: Gateway, operation: str, body: bytes) -> None:
    asked(gateway, operation, body)


@given(fields=st.binary(max_size=80))
def test_any_form(gateway: Gateway, fields: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for action in (b"PutMetricData", b"GetMetricStatistics", b"ListMetrics", b"GetMetricData"):
        body = (
            b"Action=" + action + b"&Namespace=ns&MetricName=m&Period=60&Statistics.member.1=Sum"
            b"&StartTime=2026-01-01T00:00:00Z&EndTime="
            + fields
            + b"&MetricData.member.1.Value="
            + fields
            + b"&MetricDataQueries.member.1.Id="
            + fields
        )
        reply = gateway.answer(HttpRequest("POST", "/", "", headers, body), None)
        assert reply.status in (200, 400, 501), reply.body
