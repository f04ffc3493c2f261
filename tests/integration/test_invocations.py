"""Requests to endpoints: boto3 on one side, small HTTP servers as instances on the other."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from http_server import serving
from model_servers import ModelServer, running

from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Invocations, Limits
from emulator.model.hosting import (
    AsyncOutput,
    ContainerSpec,
    Deployment,
    Serverless,
    VariantSpec,
)
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri
from emulator.settings import Settings
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Series
from emulator.workloads.serving.routes import RoutedVariant, Routes, Table, Target

SCOPE = Scope("123456789012", "us-west-2")
CONTAINER = ContainerSpec("container-1", "mine:1", {})
VARIANT = VariantSpec("AllTraffic", (CONTAINER,), "ml.m5.xlarge", 1, model="m")
LIMITS = Limits(seconds=3.0, stream_seconds=3.0, wait_seconds=3.0)
SESSION = boto3.Session()


class Samples:
    """Keeps what is measured."""

    def __init__(self) -> None:
        self.kept: dict[str, Sample] = {}

    def put(self, _: Scope, samples: list[tuple[Series, Sample]]) -> None:
        for series, sample in samples:
            self.kept[dict(series.dimensions)["VariantName"] + "/" + series.name] = sample


class House:
    """An emulator's runtime alone; tests publish which instances there are."""

    def __init__(self, resources: ExitStack):
        self.routes = Routes()
        self.samples = Samples()
        self.metrics = InvocationMetrics(self.samples)
        self._resources = resources
        self.app = Invocations(
            self.routes, Settings(account=SCOPE.account), self.metrics, limits=LIMITS
        )
        self.url = resources.enter_context(serving(self.app))

    def server(self, name: str = "", port: int = 0) -> ModelServer:
        return self._resources.enter_context(running(name, port))

    def serve(self, *variants: RoutedVariant, endpoint: str = "e", **more: Any) -> Table:
        deployment = Deployment(
            "c",
            {},
            tuple(each.spec for each in variants),
            queue=more.pop("queue", None),
        )
        table = Table(deployment, variants, **more)
        self.routes.open(SCOPE, endpoint).publish(table)
        return table

    def client(self, **options: Any) -> Any:
        return SESSION.client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name=SCOPE.region,
            aws_access_key_id="emulator",
            aws_secret_access_key="emulator-secret",
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=32, **options),
        )


@pytest.fixture
def house() -> Iterator[House]:
    with ExitStack() as resources:
        yield House(resources)


def target(server: ModelServer, name: str = "i-1") -> Target:
    return Target(name, server.dial)


def routed(*targets: Target, spec: VariantSpec = VARIANT, starting: bool = False) -> RoutedVariant:
    return RoutedVariant(spec, targets, starting)


def invoke(house: House, behaviour: str = "", body: bytes = b"x", **more: Any) -> Any:
    if behaviour:
        more["CustomAttributes"] = behaviour
    return house.client().invoke_endpoint(EndpointName="e", Body=body, **more)


def refused(call: Callable[..., Any], *args: Any, **more: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as error:
        call(*args, **more)
    response: dict[str, Any] = error.value.response
    return response


def test_a_request_and_its_answer_with_their_headers(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    answer = invoke(
        house,
        body=b"[1]",
        ContentType="application/json",
        Accept="text/csv",
        CustomAttributes="a=1",
        InferenceId="mine",
    )
    assert answer["Body"].read() == b"[1]"
    assert answer["ContentType"] == "text/csv"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "a=1"
    assert answer["ResponseMetadata"]["RequestId"]
    ((path, headers, body),) = server.seen
    assert (path, body) == ("/invocations", b"[1]")
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-sagemaker-inference-id"] == "mine"
    assert "authorization" not in headers
    assert "x-amz-date" not in headers


def test_no_content_type_where_the_caller_gives_none(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    invoke(house)
    assert "content-type" not in server.seen[0][1]


def test_connections_are_kept_and_a_stale_one_costs_no_request(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    client = house.client()
    for _ in range(3):
        client.invoke_endpoint(EndpointName="e", Body=b"x")
    assert len(server.connections) == 1
    server.cut()
    assert client.invoke_endpoint(EndpointName="e", Body=b"y")["Body"].read() == b"y"


@pytest.mark.parametrize(
    ("behaviour", "status", "words", "original"),
    [
        ("fail", 500, "server error (500)", "Traceback: x"),
        ("refuse", 415, "client error (415)", "no such type"),
    ],
)
def test_an_error_of_the_model(
    house: House, behaviour: str, status: int, words: str, original: str
) -> None:
    house.serve(routed(target(house.server())))
    error = refused(invoke, house, behaviour)
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert error["Error"]["Code"] == "ModelError"
    assert error["OriginalStatusCode"] == status
    assert error["OriginalMessage"] == original
    assert error["LogStreamArn"] == (
        "arn:aws:logs:us-west-2:123456789012:log-group:/aws/sagemaker/Endpoints/e"
    )
    assert error["Error"]["Message"] == (
        f'Received {words} from primary with message "{original}". See '
        "https://us-west-2.console.aws.amazon.com/cloudwatch/home?region=us-west-2"
        "#logEventViewer:group=/aws/sagemaker/Endpoints/e in account 123456789012 for more "
        "information."
    )


def test_a_model_that_takes_too_long(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    error = refused(invoke, house, "hang")
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 0)
    assert "Your invocation timed out while waiting for a response" in error["Error"]["Message"]
    assert len(server.seen) == 1


@pytest.mark.parametrize("behaviour", ["break", "huge"])
def test_an_answer_that_cannot_be_loaded(house: House, behaviour: str) -> None:
    house.serve(routed(target(house.server())))
    error = refused(invoke, house, behaviour)
    assert error["Error"]["Code"] == "ModelError"
    assert "could not load the entire response body" in error["Error"]["Message"]


def test_a_container_that_never_answers_gets_a_request_no_more_than_three_times(
    house: House,
) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    error = refused(invoke, house, "cut")
    assert "closed the connection before it answered" in error["Error"]["Message"]
    assert len(server.seen) == 3


def test_bodies_up_to_25_mb(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    client = house.client()
    most = bytes(25 * 1024 * 1024)
    answer = client.invoke_endpoint(EndpointName="e", Body=most)["Body"].read()
    assert len(answer) == len(most)
    error = refused(client.invoke_endpoint, EndpointName="e", Body=most + b"x")
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert len(server.seen) == 1


def test_endpoints_that_do_not_serve_are_not_found(house: House) -> None:
    house.routes.open(SCOPE, "creating")
    client = house.client()
    for name in ("unknown", "creating"):
        error = refused(client.invoke_endpoint, EndpointName=name, Body=b"")
        assert error["Error"]["Code"] == "ValidationError"
        assert error["Error"]["Message"] == (f"Endpoint {name} of account 123456789012 not found.")


def test_another_instance_answers_for_one_that_has_died(house: House) -> None:
    dead, other = house.server("dead"), house.server("other")
    house.serve(routed(target(dead), target(other, "i-2")))
    client = house.client()
    client.invoke_endpoint(EndpointName="e", Body=b"x")
    client.invoke_endpoint(EndpointName="e", Body=b"x")
    dead.die()
    for _ in range(6):
        answer = client.invoke_endpoint(EndpointName="e", Body=b"x")
        assert answer["Body"].read() == b"other:x"


def test_requests_in_a_container_that_is_killed_are_answered_by_the_other(house: House) -> None:
    dead, other = house.server("dead"), house.server("other")
    dying = target(dead)
    house.serve(routed(dying))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(invoke, house, "hang") for _ in range(4)]
        while len(dead.seen) < 4:
            time.sleep(0.01)
        other.release.set()
        house.serve(routed(dying, target(other, "i-2")))
        dead.die()
        assert [each.result()["Body"].read() for each in waiting] == [b"late"] * 4
    assert len(other.seen) == 4


def test_a_request_waits_for_an_instance_and_wakes_it(house: House) -> None:
    server = house.server()
    spec = replace(VARIANT, min_count=0)
    house.serve(routed(spec=spec, starting=True))
    route = house.routes.open(SCOPE, "e")
    woken: list[str] = []

    def wake(variant: str) -> None:
        woken.append(variant)
        threading.Timer(0.3, house.serve, [routed(target(server), spec=spec)]).start()

    route.on_wake(wake)
    assert invoke(house)["Body"].read() == b"x"
    assert woken == ["AllTraffic"]


@pytest.mark.parametrize(
    ("spec", "status", "code"),
    [
        (VARIANT, 503, "ServiceUnavailable"),
        (replace(VARIANT, serverless=Serverless(1024, 2)), 429, "ModelNotReadyException"),
    ],
)
def test_no_instance_comes_in_time(house: House, spec: VariantSpec, status: int, code: str) -> None:
    house.serve(routed(spec=spec, starting=True))
    error = refused(invoke, house)
    assert error["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error["Error"]["Code"] == code


def test_serverless_variants_take_so_many_at_once(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server), spec=replace(VARIANT, serverless=Serverless(1024, 1))))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(invoke, house, "hang")
        while not server.seen:
            time.sleep(0.01)
        error = refused(invoke, house)
        assert error["Error"]["Code"] == "ThrottlingException"
        server.release.set()
        assert first.result()["Body"].read() == b"late"
    assert invoke(house)["Body"].read() == b"x"


def test_nothing_is_lost_while_instances_are_replaced(house: House) -> None:
    """Each set of instances is drained before it ends, as the life cycle does it."""
    answered, stop = [0], threading.Event()

    def ask() -> None:
        client = house.client()
        while not stop.is_set():
            assert client.invoke_endpoint(EndpointName="e", Body=b"x")["Body"].read()
            answered[0] += 1

    old = house.server("0")
    current = target(old, "i-0")
    house.serve(routed(current))
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for number in range(1, 6):
            before = answered[0]
            while answered[0] < before + 20:
                time.sleep(0.01)
            new = house.server(str(number))
            latest = target(new, f"i-{number}")
            house.serve(routed(latest))
            with current.idle:
                current.idle.wait_for(lambda each=current: each.open == 0, 10)
            old.die()
            old, current = new, latest
        stop.set()
        for each in asking:
            each.result()
    assert answered[0] >= 100


def test_variants_by_weight_and_by_name(house: House) -> None:
    first, second = house.server("a"), house.server("b")
    house.serve(
        routed(target(first), spec=replace(VARIANT, name="a", weight=0.0)),
        routed(target(second), spec=replace(VARIANT, name="b")),
    )
    client = house.client()
    for _ in range(5):
        assert client.invoke_endpoint(EndpointName="e", Body=b"")["Body"].read() == b"b:"
    named = client.invoke_endpoint(EndpointName="e", Body=b"", TargetVariant="a")
    assert named["InvokedProductionVariant"] == "a"
    error = refused(client.invoke_endpoint, EndpointName="e", Body=b"", TargetVariant="c")
    assert error["Error"]["Code"] == "ValidationError"


def test_a_session_stays_with_its_instance(house: House) -> None:
    servers = [house.server("a"), house.server("b")]
    house.serve(routed(*(target(each, each.name) for each in servers)))
    client = house.client()
    began = client.invoke_endpoint(
        EndpointName="e", Body=b"", SessionId="NEW_SESSION", CustomAttributes="session"
    )
    session = began["NewSessionId"].partition(";")[0]
    for _ in range(8):
        answer = client.invoke_endpoint(EndpointName="e", Body=b"", SessionId=session)
        assert answer["Body"].read().decode() == f"{session.removeprefix('s-')}:"


def events(answer: Any) -> list[bytes]:
    return [event["PayloadPart"]["Bytes"] for event in answer["Body"]]


def test_a_stream_comes_part_by_part(house: House) -> None:
    server = house.server()
    house.serve(routed(target(server)))
    answer = house.client().invoke_endpoint_with_response_stream(
        EndpointName="e", Body=b"x", CustomAttributes="parts", Accept="text/plain"
    )
    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    body = iter(answer["Body"])
    assert next(body)["PayloadPart"]["Bytes"] == b"part 0"  # the model has sent no other yet
    server.release.set()
    rest = b"".join(event["PayloadPart"]["Bytes"] for event in body)
    assert rest == b"part 1part 2"
    assert server.seen[0][1]["accept"] == "text/plain"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("stopped", "closed the connection before its response ended"),
        ("stuck", "did not complete sending the inference response in the allotted time"),
    ],
)
def test_a_stream_that_does_not_end(house: House, behaviour: str, words: str) -> None:
    house.serve(routed(target(house.server())))
    answer = house.client().invoke_endpoint_with_response_stream(
        EndpointName="e", Body=b"x", CustomAttributes=behaviour
    )
    body = iter(answer["Body"])
    assert next(body)["PayloadPart"]["Bytes"] == b"begin"
    with pytest.raises(EventStreamError, match=words) as error:
        next(body)
    assert error.value.response["Error"]["Code"] == "ModelStreamError"


def test_an_error_before_a_stream_begins(house: House) -> None:
    house.serve(routed(target(house.server())))
    error = refused(
        house.client().invoke_endpoint_with_response_stream,
        EndpointName="e",
        Body=b"x",
        CustomAttributes="fail",
    )
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 500)


def test_a_pipeline_hands_on_from_container_to_container(house: House) -> None:
    servers = [house.server("a"), house.server("b")]
    containers = tuple(ContainerSpec(name, "i", {}) for name in ("first", "second"))
    spec = replace(VARIANT, containers=containers)
    pipeline = Target("i-1", lambda number: servers[number].dial())
    house.serve(routed(pipeline, spec=spec))
    answer = invoke(house, body=b"x", ContentType="text/csv")
    assert answer["Body"].read() == b"b:a:x"
    assert servers[1].seen[0][1]["content-type"] == "application/json"
    error = refused(invoke, house, "fail")
    assert "from first with message" in error["Error"]["Message"]
    house.serve(routed(pipeline, spec=replace(spec, direct=True)))
    client = house.client()
    direct = client.invoke_endpoint(EndpointName="e", Body=b"x", TargetContainerHostname="second")
    assert direct["Body"].read() == b"b:x"
    for more in ({}, {"TargetContainerHostname": "third"}):
        error = refused(client.invoke_endpoint, EndpointName="e", Body=b"x", **more)
        assert error["Error"]["Code"] == "ValidationError"


def test_models_are_loaded_when_asked_for_and_make_room_for_others(house: House) -> None:
    server = house.server()
    multi = replace(CONTAINER, models=S3Uri("b", "models/"))
    unpacked: list[str] = []

    def unpack(container: int, model: str, name: str) -> str:
        unpacked.append(model)
        return f"/opt/ml/models/{name}/{model}"

    house.serve(
        routed(Target("i-1", server.dial, unpack), spec=replace(VARIANT, containers=(multi,)))
    )
    client = house.client()

    def ask(model: str) -> str:
        answer = client.invoke_endpoint(EndpointName="e", Body=b"x", TargetModel=model)
        return str(answer["Body"].read().decode()).rpartition("/")[2]

    for model in ("a", "b", "a", "c", "a"):
        assert ask(model) == f"{model}:x"
    assert unpacked == ["a", "b", "c"]  # for c, b went: it had been used before a
    assert len(server.models) == 2
    server.models.clear()  # as if the container had dropped it by itself
    assert ask("a") == "a:x"
    error = refused(client.invoke_endpoint, EndpointName="e", Body=b"x")
    assert "TargetModel is required" in error["Error"]["Message"]


def test_components_are_reached_by_name(house: House) -> None:
    server = house.server("ic")
    host = replace(VARIANT, containers=(), model=None, count=0)
    copies = replace(VARIANT, name="ic", component_of="AllTraffic", weight=0.0)
    none = replace(copies, name="none", count=0)
    house.serve(routed(spec=host), routed(target(server), spec=copies), routed(spec=none))
    answer = invoke(house, InferenceComponentName="ic")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert "header is required" in refused(invoke, house)["Error"]["Message"]
    error = refused(invoke, house, InferenceComponentName="none")
    assert "has no capacity to process this request" in error["Error"]["Message"]
    assert (
        "Could not find" in refused(invoke, house, InferenceComponentName="x")["Error"]["Message"]
    )


def test_shadows_get_copies_and_nobody_their_answers(house: House) -> None:
    server, shadow = house.server("a"), house.server("s")
    spec = replace(VARIANT, name="shadow")
    house.serve(routed(target(server)), shadows=(routed(target(shadow, "i-2"), spec=spec),))
    answer = invoke(house)
    assert answer["Body"].read() == b"a:x"
    deadline = time.monotonic() + 10
    while not shadow.seen and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [body for _, _, body in shadow.seen] == [b"x"]


def test_asynchronous_endpoints_take_no_other_calls(house: House) -> None:
    queue = AsyncOutput(S3Uri("b", "out"), None, 4)
    house.serve(routed(target(house.server())), queue=queue)
    error = refused(invoke, house)
    assert "takes only InvokeEndpointAsync" in error["Error"]["Message"]


def test_what_is_measured(house: House) -> None:
    house.serve(routed(target(house.server())))
    invoke(house)
    refused(invoke, house, "fail")
    refused(invoke, house, "refuse")
    house.metrics.flush()
    kept = {name.partition("/")[2]: sample for name, sample in house.samples.kept.items()}
    assert {
        name: (kept[name].number, kept[name].total) for name in kept if "Latency" not in name
    } == {
        "Invocations": (3, 3),
        "InvocationsPerInstance": (3, 3),
        "Invocation4XXErrors": (3, 1),
        "Invocation5XXErrors": (3, 1),
        "InvocationModelErrors": (3, 2),
    }
    assert 0 < kept["ModelLatency"].minimum <= kept["ModelLatency"].maximum < 60e6
    assert kept["OverheadLatency"].minimum >= 0


def test_the_form_of_an_error_on_the_wire(house: House) -> None:
    where = urlsplit(house.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 0)
    connection.request("POST", "/endpoints/none/invocations", b"x")
    answer = connection.getresponse()
    assert answer.status == 400
    assert answer.getheader("x-amzn-errortype", "").startswith("ValidationError:http://")
    assert json.loads(answer.read())["ErrorCode"] == "NO_SUCH_ENDPOINT"
