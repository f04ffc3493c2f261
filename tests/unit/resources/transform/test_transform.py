"""Transform requests, and input objects as requests to the model."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from emulator.aws.transforms.records import BadInput, assembled, manifest, output_of, requests_of
from emulator.model.errors import ApiError
from emulator.model.workload import S3Uri
from emulator.resources.transform import deployment_sources, transform_spec
from emulator.resources.transform.job import TransformSpec, check

REQUEST: dict[str, Any] = {
    "TransformJobName": "job",
    "ModelName": "m",
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}},
        "SplitType": "Line",
    },
    "TransformOutput": {"S3OutputPath": "s3://b/out"},
    "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
}
MODEL = {"ModelName": "m", "PrimaryContainer": {"Image": "i", "Environment": {"A": "1", "B": "2"}}}


def spec(**more: Any) -> TransformSpec:
    request = {**REQUEST, **{k: v for k, v in more.items() if k[0].isupper() and k != "SplitType"}}
    if "SplitType" in more:
        request["TransformInput"] = {**REQUEST["TransformInput"], "SplitType": more["SplitType"]}
    return transform_spec(request)


def test_lines_are_sent_together_up_to_the_payload() -> None:
    content = b"a\n" + b"x" * 700_000 + b"\n\n" + b"y" * 700_000
    first, second = requests_of(content, spec(MaxPayloadInMB=1))
    assert first == b"a\n" + b"x" * 700_000 + b"\n"
    assert second == b"y" * 700_000


def test_one_record_each() -> None:
    assert list(requests_of(b"a\nb\n", spec(BatchStrategy="SingleRecord"))) == [b"a\n", b"b\n"]
    assert list(requests_of(b"a\nb\n", spec(SplitType="None"))) == [b"a\nb\n"]
    assert list(requests_of(b"", spec())) == []
    with pytest.raises(BadInput, match="MaxPayloadInMB"):
        list(requests_of(bytes(2 << 20), spec(SplitType="None", MaxPayloadInMB=1)))


def framed(data: bytes, part: int = 0) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return struct.pack("<II", 0xCED7230A, part << 29 | len(data)) + padded


def test_record_io() -> None:
    whole, parts = framed(b"abc"), framed(b"d", 1) + framed(b"e", 3)
    one = spec(SplitType="RecordIO", BatchStrategy="SingleRecord")
    assert list(requests_of(whole + parts, one)) == [whole, parts]
    for broken in (b"nonsense" * 4, whole[:-1], framed(b"d", 1)):
        with pytest.raises(BadInput):
            list(requests_of(broken, one))


def test_answers_are_put_together() -> None:
    by_line = spec(TransformOutput={"S3OutputPath": "s3://b/out", "AssembleWith": "Line"})
    assert assembled([b"1", b"2\n"], by_line) == b"1\n2\n"
    assert assembled([b"1", b"2"], spec()) == b"12"


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("in/", "in/sub/a.csv", "out/sub/a.csv.out"),
        ("in", "in/a.csv", "out/in/a.csv.out"),
        ("in/a.csv", "in/a.csv", "out/a.csv.out"),
    ],
)
def test_where_outputs_go(prefix: str, key: str, name: str) -> None:
    assert output_of(key, spec(), prefix) == S3Uri("b", name)


def test_manifests() -> None:
    assert manifest(json.dumps([{"prefix": "s3://b/in/"}, "a", "b"]).encode()) == (
        S3Uri("b", "in/"),
        ["a", "b"],
    )
    for broken in (b"x", b"[]", b"{}", b'[{"prefix": "nowhere"}]'):
        with pytest.raises(BadInput):
            manifest(broken)


def test_the_instances_have_the_jobs_variables() -> None:
    sources = deployment_sources({**REQUEST, "Environment": {"B": "3"}}, MODEL)
    container = sources["models"]["m"]["PrimaryContainer"]
    assert container["Environment"] == {"A": "1", "B": "3", "SAGEMAKER_BATCH": "true"}
    (variant,) = sources["config"]["ProductionVariants"]
    assert (variant["VariantName"], variant["InitialInstanceCount"]) == ("job", 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"MaxPayloadInMB": 101},
        {"MaxPayloadInMB": 20, "MaxConcurrentTransforms": 6},
        {"TransformOutput": {"S3OutputPath": "nowhere"}},
        {"TransformInput": {**REQUEST["TransformInput"], "SplitType": "TFRecord"}},
    ],
)
def test_what_is_refused(changes: dict[str, Any]) -> None:
    check(REQUEST)
    with pytest.raises(ApiError):
        check({**REQUEST, **changes})
