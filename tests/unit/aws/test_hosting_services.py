"""Models, endpoint configurations and endpoints through the gateway; no engine behind them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_endpoints import FakeEndpoints

from emulator.aws.gateway import Gateway
from emulator.aws.roles import Roles
from emulator.aws.services import endpoint_configs, endpoints, inference_components, models, tags
from emulator.aws.signatures import Signer
from emulator.aws.wire.http import HttpRequest
from emulator.data.objectstore.failures import StoreError
from emulator.database import Database
from emulator.model.hosting import Endpoint, EndpointStatus
from emulator.model.scope import Scope
from emulator.parts import SCHEMA
from emulator.resources import KINDS
from emulator.resources.hosting import read_deployment
from emulator.settings import Settings
from emulator.workloads.serving.store import HostingStore
from emulator.workloads.store.runs import JobStore

CAPTURED = Path(__file__).parents[2] / "data" / "hosting"
FLOWS = sorted(
    str(path.parent.relative_to(CAPTURED)) for path in CAPTURED.glob("*/*/CreateModel.json")
)
SCOPE = Scope("111122223333", "us-west-2")
ARN = "arn:aws:sagemaker:us-west-2:111122223333"
ROLE = "arn:aws:iam::111122223333:role/SageMakerRole"
MODEL = {
    "ModelName": "M",
    "ExecutionRoleArn": ROLE,
    "PrimaryContainer": {"Image": "mine:1", "ModelDataUrl": "s3://b/m.tar.gz"},
}
VARIANT = {
    "VariantName": "a",
    "ModelName": "M",
    "InitialInstanceCount": 1,
    "InstanceType": "ml.m5.xlarge",
}
CONFIG = {"EndpointConfigName": "C", "ProductionVariants": [VARIANT]}
ENDPOINT = {"EndpointName": "E", "EndpointConfigName": "C"}
GONE = ("gone/m.tar.gz", "gone/models/")
Ask = Callable[..., Any]


class Objects:
    """All objects are there but a few."""

    def exists(self, bucket: str, prefix: str) -> bool:
        return f"{bucket}/{prefix}" not in GONE

    def stat(self, bucket: str, key: str) -> object:
        if f"{bucket}/{key}" in GONE:
            raise StoreError("NoSuchKey", 404, "no such key")
        return object()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HostingStore]:
    database = Database(tmp_path / "state.db", SCHEMA)
    yield HostingStore(database, read_deployment)
    database.close()


@pytest.fixture
def engine(store: HostingStore) -> FakeEndpoints:
    return FakeEndpoints(store)


@pytest.fixture
def gateway(store: HostingStore, engine: FakeEndpoints, tmp_path: Path) -> Gateway:
    clock = iter(range(1_700_000_000, 1_800_000_000)).__next__
    jobs = JobStore(Database(tmp_path / "jobs.db", SCHEMA), KINDS)
    services = {
        "sagemaker": {
            **models.operations(store, Roles(Settings(roles=(ROLE,))), None, Objects(), clock),
            **endpoint_configs.operations(store, clock=clock),
            **endpoints.operations(engine, store, clock),
            **inference_components.operations(engine, store, clock=clock),
            **tags.operations(jobs, store),
        }
    }
    return Gateway(services, Settings(account=SCOPE.account))


@pytest.fixture
def ask(gateway: Gateway) -> Ask:
    """Gives the answer's members, or the error's code and message."""

    def send(operation: str, request: Any = None, **members: Any) -> Any:
        body = json.dumps({**(request or {}), **members}).encode()
        headers = {
            "x-amz-target": f"SageMaker.{operation}",
            "content-type": "application/x-amz-json-1.1",
        }
        asked = HttpRequest("POST", "/", "", headers, body)
        reply = gateway.answer(asked, Signer("key", SCOPE.region, "sagemaker"))
        answer = json.loads(reply.body) if reply.body else {}
        if reply.status == 200:
            return answer
        return answer["__type"], answer.get("message", answer.get("Message"))

    return send


def captured(flow: str, name: str) -> Any:
    return json.loads((CAPTURED / flow / f"{name}.json").read_text())


def refused(answer: Any) -> str:
    """The words of a ValidationException."""
    code, message = answer
    assert code == "ValidationException"
    return str(message)


@pytest.mark.parametrize("flow", FLOWS)
def test_what_the_sdks_send_makes_an_endpoint(ask: Ask, flow: str) -> None:
    model = captured(flow, "CreateModel")
    assert ask("CreateModel", model)["ModelArn"].startswith(f"{ARN}:model/")
    described = ask("DescribeModel", ModelName=model["ModelName"])
    for member in ("PrimaryContainer", "Containers", "ExecutionRoleArn"):
        assert described.get(member) == model.get(member)
    config = captured(flow, "CreateEndpointConfig")
    answer = ask("CreateEndpointConfig", config)
    assert answer["EndpointConfigArn"].startswith(f"{ARN}:endpoint-config/")
    name = config["EndpointConfigName"]
    described = ask("DescribeEndpointConfig", EndpointConfigName=name)
    (variant,), (sent,) = described["ProductionVariants"], config["ProductionVariants"]
    assert {key: variant[key] for key in sent} == sent
    endpoint = captured(flow, "CreateEndpoint")
    assert ask("CreateEndpoint", endpoint)["EndpointArn"].startswith(f"{ARN}:endpoint/")
    described = ask("DescribeEndpoint", EndpointName=endpoint["EndpointName"])
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["VariantName"] == variant["VariantName"]
    arn = described["EndpointArn"]
    assert ask("ListTags", ResourceArn=arn)["Tags"] == endpoint.get("Tags", [])


def made(ask: Ask) -> None:
    ask("CreateModel", MODEL)
    ask("CreateEndpointConfig", CONFIG)


def test_names_are_taken_once_and_in_the_services_words(ask: Ask) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)
    assert refused(ask("CreateModel", MODEL)) == (
        f'Cannot create already existing model "{ARN}:model/m".'
    )
    assert refused(ask("CreateEndpointConfig", CONFIG)) == (
        f'Cannot create already existing endpoint configuration "{ARN}:endpoint-config/c".'
    )
    assert refused(ask("CreateEndpoint", ENDPOINT)) == (
        f'Cannot create already existing endpoint "{ARN}:endpoint/e".'
    )


@pytest.mark.parametrize(
    ("operation", "member", "words"),
    [
        ("DescribeModel", "ModelName", 'model "{arn}:model/x"'),
        ("DeleteModel", "ModelName", 'model "{arn}:model/x"'),
        (
            "DescribeEndpointConfig",
            "EndpointConfigName",
            'endpoint configuration "{arn}:endpoint-config/x"',
        ),
        (
            "DeleteEndpointConfig",
            "EndpointConfigName",
            'endpoint configuration "{arn}:endpoint-config/x"',
        ),
        ("DescribeEndpoint", "EndpointName", 'endpoint "{arn}:endpoint/x"'),
        ("DeleteEndpoint", "EndpointName", 'endpoint "{arn}:endpoint/x"'),
    ],
)
def test_what_is_not_there(ask: Ask, operation: str, member: str, words: str) -> None:
    answer = ask(operation, {member: "x"})
    assert refused(answer) == f"Could not find {words.format(arn=ARN)}."


def test_a_configuration_needs_its_models_and_an_endpoint_its_configuration(ask: Ask) -> None:
    assert refused(ask("CreateEndpointConfig", CONFIG)) == f'Could not find model "{ARN}:model/m".'
    assert refused(ask("CreateEndpoint", ENDPOINT)) == (
        f'Could not find endpoint configuration "{ARN}:endpoint-config/c".'
    )


def test_model_data_and_role_are_looked_up_when_a_model_is_created(ask: Ask) -> None:
    gone = {"Image": "mine:1", "ModelDataUrl": "s3://gone/m.tar.gz"}
    assert refused(ask("CreateModel", {**MODEL, "PrimaryContainer": gone})) == (
        "Could not find model data at s3://gone/m.tar.gz."
    )
    other = "arn:aws:iam::111122223333:role/Nobody"
    answer = refused(ask("CreateModel", {**MODEL, "ExecutionRoleArn": other}))
    assert answer.startswith(f"Could not assume role {other}.")
    later = {"Image": "mine:1", "Mode": "MultiModel", "ModelDataUrl": "s3://gone/models/"}
    assert "ModelArn" in ask("CreateModel", {**MODEL, "PrimaryContainer": later})


def test_an_endpoint_that_is_creating(ask: Ask, engine: FakeEndpoints) -> None:
    engine.at_once = False
    made(ask)
    ask("CreateEndpoint", ENDPOINT)
    described = ask("DescribeEndpoint", EndpointName="E")
    assert described["EndpointStatus"] == "Creating"
    assert described["EndpointConfigName"] == "C"
    assert "ProductionVariants" not in described
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == "C"
    words = f'Cannot update in-progress endpoint "{ARN}:endpoint/e".'
    assert refused(ask("UpdateEndpoint", ENDPOINT)) == words
    weights = [{"VariantName": "a", "DesiredWeight": 1}]
    answer = ask(
        "UpdateEndpointWeightsAndCapacities", EndpointName="E", DesiredWeightsAndCapacities=weights
    )
    assert refused(answer) == words


def test_an_update_shows_the_old_configuration_until_the_new_one_serves(
    ask: Ask, engine: FakeEndpoints
) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)
    two = {**VARIANT, "InitialInstanceCount": 2}
    ask("CreateEndpointConfig", EndpointConfigName="C2", ProductionVariants=[two])
    engine.at_once = False
    policy = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    update = {
        "EndpointName": "E",
        "EndpointConfigName": "C2",
        "DeploymentConfig": {"BlueGreenUpdatePolicy": policy},
    }
    assert ask("UpdateEndpoint", update) == {"EndpointArn": f"{ARN}:endpoint/e"}
    described = ask("DescribeEndpoint", EndpointName="E")
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", "C")
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == "C2"
    engine.settle(SCOPE, "E")
    described = ask("DescribeEndpoint", EndpointName="E")
    assert described["EndpointConfigName"] == "C2"
    assert described["LastDeploymentConfig"] == {"BlueGreenUpdatePolicy": policy}
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    alarms = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "x"}]}}
    code, _ = ask("UpdateEndpoint", {**update, "DeploymentConfig": alarms})
    assert code == "NotImplementedException"


def test_weights_and_capacities(ask: Ask) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)

    def wish(**members: Any) -> Any:
        return ask(
            "UpdateEndpointWeightsAndCapacities",
            EndpointName="E",
            DesiredWeightsAndCapacities=[{"VariantName": "a", **members}],
        )

    wish(DesiredWeight=3)
    wish(DesiredInstanceCount=2)
    (variant,) = ask("DescribeEndpoint", EndpointName="E")["ProductionVariants"]
    assert (variant["DesiredWeight"], variant["DesiredInstanceCount"]) == (3, 2)
    assert "Could not find variant" in refused(wish(VariantName="b", DesiredWeight=1))
    assert "weight above 0" in refused(wish(DesiredWeight=0))


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [((), (3, 2)), (("DesiredWeight",), (1, 2)), (("DesiredInstanceCount",), (3, 1))],
)
def test_an_update_can_retain_what_was_wished(
    ask: Ask, excluded: tuple[str, ...], expected: tuple[int, int]
) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)
    wishes = [{"VariantName": "a", "DesiredWeight": 3, "DesiredInstanceCount": 2}]
    ask("UpdateEndpointWeightsAndCapacities", EndpointName="E", DesiredWeightsAndCapacities=wishes)
    ask(
        "UpdateEndpoint",
        ENDPOINT,
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": name} for name in excluded],
    )
    (variant,) = ask("DescribeEndpoint", EndpointName="E")["ProductionVariants"]
    assert (variant["DesiredWeight"], variant["DesiredInstanceCount"]) == expected


def test_a_failed_endpoint_can_only_be_deleted(ask: Ask, store: HostingStore) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)

    def fail(endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, status=EndpointStatus.FAILED, failure_reason="because")

    store.change(SCOPE, "E", fail)
    described = ask("DescribeEndpoint", EndpointName="E")
    assert (described["EndpointStatus"], described["FailureReason"]) == ("Failed", "because")
    assert "can only be deleted" in refused(ask("UpdateEndpoint", ENDPOINT))
    assert ask("DeleteEndpoint", EndpointName="E") == {}


def test_configurations_and_models_may_go_while_an_endpoint_uses_them(ask: Ask) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)
    ask("DeleteEndpointConfig", EndpointConfigName="C")
    ask("DeleteModel", ModelName="M")
    (variant,) = ask("DescribeEndpoint", EndpointName="E")["ProductionVariants"]
    assert variant["DeployedImages"][0]["SpecifiedImage"] == "mine:1"


def test_lists_are_newest_first_in_pages_and_narrowed_down(ask: Ask) -> None:
    for name in ("one", "two", "three"):
        ask("CreateModel", {**MODEL, "ModelName": name})
    first = ask("ListModels", MaxResults=2)
    assert [each["ModelName"] for each in first["Models"]] == ["three", "two"]
    rest = ask("ListModels", MaxResults=2, NextToken=first["NextToken"])
    assert [each["ModelName"] for each in rest["Models"]] == ["one"]
    assert "NextToken" not in rest
    by_name = ask("ListModels", SortBy="Name", SortOrder="Ascending", NameContains="T")
    assert [each["ModelName"] for each in by_name["Models"]] == ["three", "two"]
    assert refused(ask("ListModels", NextToken="bad")) == "Invalid NextToken"
    ask("CreateEndpointConfig", CONFIG | {"ProductionVariants": [{**VARIANT, "ModelName": "one"}]})
    ask("CreateEndpoint", ENDPOINT)
    assert len(ask("ListEndpointConfigs")["EndpointConfigs"]) == 1
    assert ask("ListEndpoints", StatusEquals="Failed")["Endpoints"] == []
    (listed,) = ask("ListEndpoints", StatusEquals="InService")["Endpoints"]
    assert listed["EndpointArn"] == f"{ARN}:endpoint/e"


def test_tags_of_all_three(ask: Ask) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT, Tags=[{"Key": "a", "Value": "1"}])
    for resource in ("model/m", "endpoint-config/c", "endpoint/e"):
        arn = f"{ARN}:{resource}"
        ask("AddTags", ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
        listed = ask("ListTags", ResourceArn=arn)["Tags"]
        assert {"Key": "b", "Value": "2"} in listed
        ask("DeleteTags", ResourceArn=arn, TagKeys=["a", "b"])
        assert ask("ListTags", ResourceArn=arn)["Tags"] == []
    assert refused(ask("ListTags", ResourceArn=f"{ARN}:endpoint/x")) == (
        "Requested resource not found."
    )


def test_a_capture_is_described(ask: Ask) -> None:
    for name in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint"):
        ask(name, captured("v2/capture", name))
    described = ask("DescribeEndpoint", EndpointName="v2-cap")
    assert described["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://mybucket/cap",
        "KmsKeyId": "",
    }


def test_components_are_put_on_an_endpoint_and_taken_off(
    ask: Ask, store: HostingStore, engine: FakeEndpoints
) -> None:
    flow = "v2/inference_component"
    for operation in ("CreateEndpointConfig", "CreateEndpoint", "CreateModel"):
        ask(operation, captured(flow, operation))
    request = captured(flow, "CreateInferenceComponent")
    name = request["InferenceComponentName"]
    assert ask("CreateInferenceComponent", request) == {
        "InferenceComponentArn": f"{ARN}:inference-component/{name}"
    }
    assert refused(ask("CreateInferenceComponent", request)) == (
        f'Cannot create already existing inference component "{ARN}:inference-component/{name}".'
    )
    described = ask("DescribeInferenceComponent", InferenceComponentName=name)
    assert described["InferenceComponentStatus"] == "InService"
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert described["Specification"] == request["Specification"]
    ask(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName=name,
        DesiredRuntimeConfig={"CopyCount": 1},
    )
    (listed,) = ask("ListInferenceComponents", EndpointNameEquals="v2-ic")["InferenceComponents"]
    assert listed["InferenceComponentName"] == name
    endpoint = store.endpoint(SCOPE, "v2-ic")
    assert endpoint is not None
    assert endpoint.current is not None
    assert [(each.name, each.count) for each in endpoint.current.variants] == [
        ("AllTraffic", 0),
        (name, 1),
    ]
    engine.at_once = False
    ask("DeleteInferenceComponent", InferenceComponentName=name)
    assert refused(ask("DescribeInferenceComponent", InferenceComponentName=name)) == (
        f'Could not find inference component "{ARN}:inference-component/{name}".'
    )
    assert "in-progress" in refused(ask("CreateInferenceComponent", request))
    engine.settle(SCOPE, "v2-ic")
    assert "InferenceComponentArn" in ask("CreateInferenceComponent", request)
    ask("DeleteEndpoint", EndpointName="v2-ic")
    assert ask("ListInferenceComponents")["InferenceComponents"] == []


def test_components_need_a_variant_without_a_model(ask: Ask) -> None:
    made(ask)
    ask("CreateEndpoint", ENDPOINT)
    request = {
        **captured("v2/inference_component", "CreateInferenceComponent"),
        "EndpointName": "E",
    }
    assert "have models of their own" in refused(ask("CreateInferenceComponent", request))
