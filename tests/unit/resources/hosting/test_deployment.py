"""Configurations and models as deployments, and what both may not have."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.model.hosting import Deployment, ModelData, Serverless
from emulator.model.workload import S3Uri
from emulator.resources.hosting import read_deployment, rules
from emulator.resources.hosting.instance_types import type_of_same_size

CAPTURED = Path(__file__).parents[3] / "data" / "hosting"
FLOWS = sorted(
    str(path.parent.relative_to(CAPTURED)) for path in CAPTURED.glob("*/*/CreateModel.json")
)
ROLE = "arn:aws:iam::111122223333:role/SageMakerRole"
MODEL = {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "mine:1"}}
VARIANT = {
    "VariantName": "a",
    "ModelName": "m",
    "InitialInstanceCount": 1,
    "InstanceType": "ml.m5.xlarge",
}
CONFIG = {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]}


def captured(flow: str, name: str) -> Any:
    return json.loads((CAPTURED / flow / f"{name}.json").read_text())


def deployment(flow: str, **more: Any) -> Deployment:
    model = captured(flow, "CreateModel")
    config = captured(flow, "CreateEndpointConfig")
    return read_deployment({"config": config, "models": {model["ModelName"]: model}, **more})


def of(config: dict[str, Any], **models: Any) -> Deployment:
    return read_deployment({"config": config, "models": models or {"m": MODEL}})


@pytest.mark.parametrize("flow", FLOWS)
def test_what_the_sdks_send_is_accepted(flow: str) -> None:
    rules.check_model(captured(flow, "CreateModel"))
    rules.check_config(captured(flow, "CreateEndpointConfig"))
    assert deployment(flow).variants


def test_a_variant_has_what_its_model_and_its_configuration_say() -> None:
    (variant,) = deployment("v2/model_raw").variants
    (container,) = variant.containers
    assert (variant.name, variant.count, variant.weight) == ("AllTraffic", 1, 1.0)
    assert (variant.download_seconds, variant.startup_seconds) == (700, 600)
    assert container.environment == {"A": "b"}
    uri = S3Uri("mybucket", "in/model.tar.gz")
    assert container.data == (ModelData(uri, "archive", "/opt/ml/model"),)
    assert variant.role_arn == ROLE


def test_wishes_of_weights_and_capacities_go_before_the_configuration() -> None:
    (variant,) = deployment(
        "v2/model_raw", desired={"AllTraffic": {"weight": 3.0, "count": 4}}
    ).variants
    assert (variant.weight, variant.count) == (3.0, 4)


def test_a_serverless_variant_may_have_no_instance() -> None:
    (variant,) = deployment("v2/serverless").variants
    assert variant.serverless == Serverless(2048, 3)
    assert (variant.min_count, variant.instance_type) == (0, "ml.t3.medium")


def test_pipelines_and_multi_model_containers() -> None:
    (pipeline,) = deployment("v2/pipeline").variants
    assert [each.hostname for each in pipeline.containers] == ["container-1", "container-2"]
    assert not pipeline.direct
    (multi,) = deployment("v2/multimodel").variants
    (container,) = multi.containers
    assert container.models == S3Uri("mybucket", "mme/")
    assert container.data == ()


def test_capture_and_queue() -> None:
    capture = deployment("v2/capture").capture
    assert capture is not None
    assert (capture.destination, capture.percentage) == (S3Uri("mybucket", "cap"), 100)
    assert (capture.inputs, capture.outputs) == (True, True)
    queue = deployment("v2/async").queue
    assert queue is not None
    assert queue.max_concurrent == 4
    assert str(queue.output).startswith("s3://mybucket/async-endpoint-outputs/mine-")


def test_components_are_variants_that_requests_name() -> None:
    component = captured("v2/inference_component", "CreateInferenceComponent")
    read = deployment("v2/inference_component", components={"x": component})
    host, copies = read.variants
    assert (host.name, host.containers, host.count) == ("AllTraffic", (), 0)
    assert copies.component_of == "AllTraffic"
    assert (copies.count, copies.instance_type, copies.weight) == (2, "ml.local.1gpu", 0.0)
    assert copies.containers


def test_model_data_sources() -> None:
    def source(kind: str, packed: str, key: str) -> dict[str, Any]:
        return {
            "S3DataSource": {
                "S3Uri": f"s3://b/{key}",
                "S3DataType": kind,
                "CompressionType": packed,
            }
        }

    model = {
        **MODEL,
        "PrimaryContainer": {
            "Image": "mine:1",
            "ModelDataSource": source("S3Prefix", "None", "weights/"),
            "AdditionalModelDataSources": [
                {"ChannelName": "draft", **source("S3Object", "Gzip", "d.tar.gz")},
                {"ChannelName": "one", **source("S3Object", "None", "one.bin")},
            ],
        },
    }
    rules.check_model(model)
    (container,) = of(CONFIG, m=model).variants[0].containers
    additional = "/opt/ml/additional-model-data-sources"
    assert container.data == (
        ModelData(S3Uri("b", "weights/"), "prefix", "/opt/ml/model"),
        ModelData(S3Uri("b", "d.tar.gz"), "archive", f"{additional}/draft"),
        ModelData(S3Uri("b", "one.bin"), "object", f"{additional}/one"),
    )


def test_every_hosting_type_has_a_size_here_or_a_reason_why_not() -> None:
    model = Session().get_service_model("sagemaker")
    table = files("emulator.placement").joinpath("instance_types.csv").read_text().splitlines()
    known = {row["instance_type"]: row for row in csv.DictReader(table)}
    unknown, refused = [], []
    for name in model.shape_for("ProductionVariantInstanceType").enum:
        try:
            same = type_of_same_size(name)
        except ValueError as error:
            refused.append(str(error))
            continue
        if same not in known or known[same]["arch"] != "amd64" or known[same]["neuron_devices"]:
            unknown.append(name)
    assert unknown == []
    assert len(refused) > 90
    assert all("this machine" in each for each in refused)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("ml.c6g.xlarge", "arm64 (Graviton) processor, and images"),
        ("ml.inf2.xlarge", "AWS Inferentia2 accelerators"),
        ("ml.trn1.2xlarge", "AWS Trainium accelerators"),
    ],
)
def test_other_processors_are_refused_in_words(asked: str, words: str) -> None:
    with pytest.raises(ValidationError, match="sagemaker-emulator: ml") as refusal:
        rules.check_config({**CONFIG, "ProductionVariants": [{**VARIANT, "InstanceType": asked}]})
    assert words in refusal.value.message


def container(**more: Any) -> dict[str, Any]:
    return {**MODEL, "PrimaryContainer": {"Image": "mine:1", **more}}


@pytest.mark.parametrize(
    "request_",
    [
        {**MODEL, "Containers": []},
        {"ModelName": "m", "ExecutionRoleArn": ROLE},
        {"ModelName": "m", "PrimaryContainer": {"Image": "i"}},
        container(Mode="MultiModel"),
        container(Environment={"A": "x" * 40_000}),
        container(ModelDataUrl="nowhere"),
        {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": {}},
        {
            "ModelName": "m",
            "ExecutionRoleArn": ROLE,
            "Containers": [{"Image": "i"}, {"Image": "i"}],
            "InferenceExecutionConfig": {"Mode": "Direct"},
        },
        container(ModelPackageName="p"),
    ],
)
def test_models_that_are_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        rules.check_model(request_)


def variants(*each: dict[str, Any]) -> dict[str, Any]:
    return {**CONFIG, "ProductionVariants": list(each)}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (variants(VARIANT, VARIANT), ValidationError),
        (variants({**VARIANT, "ServerlessConfig": {"MemorySizeInMB": 1024}}), ValidationError),
        (variants({"VariantName": "a", "ModelName": "m"}), ValidationError),
        (variants({**VARIANT, "InitialVariantWeight": 0.0}), ValidationError),
        (variants({**VARIANT, "InitialInstanceCount": 101}), ApiError),
        (variants({**VARIANT, "InstancePools": []}), NotBuilt),
        ({**CONFIG, "ExplainerConfig": {}}, NotBuilt),
        ({**CONFIG, "AsyncInferenceConfig": {"OutputConfig": {}}}, ValidationError),
        (
            {
                **variants(VARIANT, {**VARIANT, "VariantName": "b"}),
                "ShadowProductionVariants": [{**VARIANT, "VariantName": "s"}],
            },
            ValidationError,
        ),
        (
            variants({k: v for k, v in VARIANT.items() if k != "ModelName"}),
            ValidationError,
        ),
    ],
)
def test_configurations_that_are_refused(request_: dict[str, Any], kind: type[ApiError]) -> None:
    with pytest.raises(kind):
        rules.check_config(request_)
