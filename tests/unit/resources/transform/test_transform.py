"""Transform requests, and input objects as requests to the model."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from emulator.aws.transforms.parameters import read_parameters
from emulator.aws.transforms.records import BadInput, manifest, output_of, requests_of
from emulator.model.errors import ApiError
from emulator.model.workload import S3Uri
from emulator.resources.transform import deployment_sources, transform_spec
from emulator.resources.transform.job import TransformSpec, check, with_parameters

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


def requests(content: bytes, asked: TransformSpec, piece: int = 1 << 20) -> list[bytes]:
    pieces = (content[at : at + piece] for at in range(0, len(content), piece))
    return list(requests_of(pieces, asked))


@pytest.mark.parametrize("piece", [1000, 1 << 20])
def test_lines_are_sent_together_up_to_the_payload(piece: int) -> None:
    content = b"a\n" + b"x" * 700_000 + b"\n\n" + b"y" * 700_000
    first, second = requests(content, spec(MaxPayloadInMB=1), piece)
    assert first == b"a\n" + b"x" * 700_000 + b"\n"
    assert second == b"y" * 700_000


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_one_record_each(piece: int) -> None:
    single = spec(BatchStrategy="SingleRecord")
    assert requests(b"a\r\n\nb\n c", single, piece) == [b"a\r\n", b"b\n", b" c"]
    assert requests(b"a\nb\n", spec(SplitType="None"), piece) == [b"a\nb\n"]
    assert requests(b"", spec()) == []
    assert requests(b"", spec(SplitType="None")) == [b""]


def test_a_record_that_is_too_large() -> None:
    for split in ("None", "Line"):
        with pytest.raises(BadInput, match="Too much data for max payload size"):
            requests(bytes(2 << 20), spec(SplitType=split, MaxPayloadInMB=1))
    large = bytes(9 << 20)
    assert requests(large, spec(SplitType="None", MaxPayloadInMB=0)) == [large]


def framed(data: bytes, part: int = 0) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return struct.pack("<II", 0xCED7230A, part << 29 | len(data)) + padded


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_record_io(piece: int) -> None:
    whole, parts = framed(b"abc"), framed(b"d", 1) + framed(b"e", 3)
    one = spec(SplitType="RecordIO", BatchStrategy="SingleRecord")
    assert requests(whole + parts, one, piece) == [b"abc", b"de"]
    assert requests(whole + parts, spec(SplitType="RecordIO"), piece) == [whole + parts]
    for broken in (b"nonsense" * 4, whole[:-1], whole[:5], framed(b"d", 1)):
        with pytest.raises(BadInput):
            requests(broken, one, piece)


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_tf_records(piece: int) -> None:
    content = b"".join(struct.pack("<QI", len(each), 1) + each + b"crc4" for each in (b"a", b"bcd"))
    one = spec(SplitType="TFRecord", BatchStrategy="SingleRecord")
    assert requests(content, one, piece) == [b"a", b"bcd"]
    assert requests(content, spec(SplitType="TFRecord"), piece) == [content]
    for broken in (content[:-1], content + b"x"):
        with pytest.raises(BadInput):
            requests(broken, one, piece)


def test_a_container_chooses_what_the_request_leaves_open() -> None:
    said = read_parameters(
        {"BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 3, "MaxConcurrentTransforms": 8}
    )
    open_ = {**REQUEST, "MaxConcurrentTransforms": 0}
    chosen = transform_spec(with_parameters(open_, said))
    assert (chosen.multi, chosen.payload, chosen.concurrent) == (False, 3 << 20, 8)
    asked = {**REQUEST, "MaxConcurrentTransforms": 2, "BatchStrategy": "MultiRecord"}
    chosen = transform_spec(with_parameters(asked, said))
    assert (chosen.multi, chosen.payload, chosen.concurrent) == (True, 3 << 20, 2)
    assert read_parameters({"BatchStrategy": "x", "MaxPayloadInMB": "3"}) == {}


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
        {"MaxPayloadInMB": 0, "BatchStrategy": "MultiRecord"},
    ],
)
def test_what_is_refused(changes: dict[str, Any]) -> None:
    check(REQUEST)
    with pytest.raises(ApiError):
        check({**REQUEST, **changes})
