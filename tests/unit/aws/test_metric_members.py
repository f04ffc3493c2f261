"""MetricDefinitions in CreateTrainingJob, FinalMetricDataList in Describe."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.aws.services.describe import describe
from emulator.aws.services.training_rules import check
from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_protocol import JsonProtocol
from emulator.aws.wire.rest_json_protocol import RestJsonProtocol
from emulator.aws.wire.service_models import operation_model, service_model
from emulator.model.errors import UnknownOperation, ValidationError
from emulator.model.lifecycle import Lifecycle
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.resources.training import training_job
from emulator.telemetry.metrics.statistics import Sample


def request(*patterns: str) -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "m", "Regex": pattern} for pattern in patterns],
        },
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 100},
    }


def test_expressions_are_looked_at_before_a_job_is_taken() -> None:
    check(request(r"loss=(\S+)", "(?<value>[0-9.]+)", "no group"))
    with pytest.raises(ValidationError, match=r"'\(' of metric 'm' is invalid: missing \)"):
        check(request(r"loss=(\S+)", "("))


def test_final_metrics_are_in_whole_seconds_and_single_precision() -> None:
    spec = training_job(request(".*"), Scope("123456789012", "us-east-1"))
    model = service_model("sagemaker")
    assert model
    shown = describe(
        Job(spec, Lifecycle.begin(1_700_000_000.123)),
        {"m": Sample.of(0.003599999938160181, 1_700_000_005.987)},
    )
    body = JsonProtocol(model, "1.1").serialize(
        operation_model(model, "DescribeTrainingJob"), shown, "id"
    )
    assert (
        b'"FinalMetricDataList":[{"MetricName":"m","Value":0.003599999938160181,'
        b'"Timestamp":1700000005' in body
    )


def test_without_values_there_is_no_list() -> None:
    spec = training_job(request(".*"), Scope("123456789012", "us-east-1"))
    assert describe(Job(spec, Lifecycle.begin(0)))["FinalMetricDataList"] is None


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/BatchPutMetrics"), ("PUT", "/"), ("PUT", "/Other")]
)
def test_rest_operations_go_by_method_and_path(method: str, path: str) -> None:
    model = service_model("sagemaker-metrics")
    assert model
    protocol = RestJsonProtocol(model)
    good = HttpRequest("PUT", "/BatchPutMetrics", "", {})
    assert protocol.operation_name(good) == "BatchPutMetrics"
    with pytest.raises(UnknownOperation):
        protocol.operation_name(HttpRequest(method, path, "", {}))
