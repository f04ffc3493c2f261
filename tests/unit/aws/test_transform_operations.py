"""The operations on transform jobs; nobody runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services import transform_jobs
from emulator.database import Database
from emulator.model.errors import ApiError
from emulator.model.scope import Scope
from emulator.parts import SCHEMA
from emulator.resources.hosting import read_deployment
from emulator.workloads.serving.store import MODEL, HostingStore, Resource

SCOPE = Scope("123456789012", "us-west-2")
ROLE = "arn:aws:iam::123456789012:role/R"
REQUEST: dict[str, Any] = {
    "TransformJobName": "Job",
    "ModelName": "m",
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}},
        "ContentType": "text/csv",
    },
    "TransformOutput": {"S3OutputPath": "s3://b/out"},
    "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
}
Ask = Callable[..., Any]


class Jobs:
    """Keeps them only."""

    def __init__(self, store: HostingStore):
        self._store = store

    def submit(self, row: Resource) -> None:
        self._store.create(row)

    def stop(self, scope: Scope, name: str) -> None:
        raise NotImplementedError


class Objects:
    def bucket_exists(self, bucket: str) -> bool:
        return bucket == "b"

    def exists(self, bucket: str, prefix: str) -> bool:
        return (bucket, prefix) == ("b", "in/")


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    database = Database(tmp_path / "state.db", SCHEMA)
    store = HostingStore(database, read_deployment)
    for name, container in (("m", {"Image": "i"}), ("many", {"Image": "i", "Mode": "MultiModel"})):
        request = {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
        store.create(Resource(MODEL, SCOPE, name, 1.0, 1.0, request))
    handlers = transform_jobs.operations(Jobs(store), store, Objects())
    yield lambda operation, **params: handlers[operation](Call(SCOPE, params))
    database.close()


def refused(ask: Ask, **changes: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask("CreateTransformJob", **{**REQUEST, **changes})
    return caught.value


def test_defaults_are_shown_as_the_service_shows_them(ask: Ask) -> None:
    ask("CreateTransformJob", **REQUEST)
    described = ask("DescribeTransformJob", TransformJobName="Job")
    given = {"CompressionType": "None", "SplitType": "None", **REQUEST["TransformInput"]}
    assert described["TransformInput"] == given
    assert described["TransformOutput"]["AssembleWith"] == "None"
    assert described["DataProcessing"] == {
        "InputFilter": "$",
        "OutputFilter": "$",
        "JoinSource": "None",
    }


def test_a_name_is_taken_once(ask: Ask) -> None:
    ask("CreateTransformJob", **REQUEST)
    error = refused(ask)
    assert error.code == "ResourceInUse"
    assert "must be unique within an AWS account and region" in error.message
    with pytest.raises(ApiError, match="Could not find requested job with name: Other"):
        ask("DescribeTransformJob", TransformJobName="Other")


def test_data_and_models_that_cannot_be_used(ask: Ask) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/nothing/"}
    nothing = {**REQUEST["TransformInput"], "DataSource": {"S3DataSource": source}}
    message = refused(ask, TransformInput=nothing).message
    assert message.startswith('No S3 objects found under S3 URL "s3://b/nothing/"')
    assert ROLE in message
    gone = {"S3OutputPath": "s3://gone/out"}
    assert 's3://gone/out" cannot be used' in refused(ask, TransformOutput=gone).message
    assert "multi-model" in refused(ask, ModelName="many").message
    assert "Could not find model" in refused(ask, ModelName="none").message
