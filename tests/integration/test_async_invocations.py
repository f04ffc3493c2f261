"""Asynchronous endpoints and captured data: boto3, the runtime, and objects in memory."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError
from model_servers import ModelServer, running
from starlette.applications import Starlette

from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.queue_store import QueueStore
from emulator.aws.invocations.runtime import Runtime
from emulator.data.objectstore.failures import StoreError
from emulator.database import Database
from emulator.model.hosting import (
    AsyncOutput,
    Capture,
    ContainerSpec,
    Deployment,
    Endpoint,
    EndpointStatus,
    VariantSpec,
)
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri
from emulator.parts import SCHEMA, listen
from emulator.resources.hosting import read_deployment
from emulator.settings import Settings
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Series
from emulator.workloads.serving.routes import RoutedVariant, Routes, Table, Target
from emulator.workloads.serving.store import ENDPOINT, HostingStore, endpoint_row

SCOPE = Scope("123456789012", "us-west-2")
VARIANT = VariantSpec(
    "AllTraffic", (ContainerSpec("container-1", "mine:1", {}),), "ml.m5.xlarge", 1, model="m"
)
OUTPUT = AsyncOutput(S3Uri("b", "out"), S3Uri("b", "failures"), 2)


class Objects:
    """A bucket in memory, which can be out of order."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.refusals = 0

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        if (found := self.kept.get(f"s3://{bucket}/{key}")) is None:
            raise StoreError("NoSuchKey", 404, "no such key")
        yield found

    def upload(self, bucket: str, key: str, stream: io.BytesIO) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreError("ServiceUnavailable", 503, "starting")
        self.kept[f"s3://{bucket}/{key}"] = stream.read()


class Samples:
    def __init__(self) -> None:
        self.names: set[str] = set()

    def put(self, _: Scope, samples: list[tuple[Series, Sample]]) -> None:
        self.names |= {series.name for series, sample in samples if sample.total}


class House:
    """What outlives an emulator, and emulators one after the other."""

    def __init__(self, directory: Path):
        self.database = Database(directory / "state.db", SCHEMA)
        self.endpoints = HostingStore(self.database, read_deployment)
        self.objects = Objects()
        self.samples = Samples()
        endpoint = Endpoint(SCOPE, "e", EndpointStatus.IN_SERVICE, 1.0, 1.0, {})
        self.endpoints.create(endpoint_row(endpoint))

    @contextmanager
    def emulator(self, server: ModelServer, **more: Any) -> Iterator[Any]:
        """The runtime as long as the context lasts; gives a client."""
        routes = Routes()
        deployment = Deployment("c", {}, (VARIANT,), **(more or {"queue": OUTPUT}))
        target = Target("i-1", server.dial)
        table = Table(deployment, (RoutedVariant(VARIANT, (target,)),))
        routes.open(SCOPE, "e").publish(table)
        metrics = InvocationMetrics(self.samples)
        runtime = Runtime(
            Settings(account=SCOPE.account),
            routes,
            self.endpoints,
            QueueStore(self.database),
            self.objects,  # type: ignore[arg-type]
            metrics,
        )

        @asynccontextmanager
        async def lifespan(_: Any) -> AsyncIterator[None]:
            async with runtime.running():
                yield

        app = Starlette(lifespan=lifespan)
        app.mount("/", runtime)
        listening = listen("127.0.0.1", 0)
        own = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=own.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield boto3.client(
                "sagemaker-runtime",
                endpoint_url=f"http://127.0.0.1:{listening.getsockname()[1]}",
                region_name=SCOPE.region,
                aws_access_key_id="emulator",
                aws_secret_access_key="emulator-secret",
                config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
            )
        finally:
            own.should_exit = True
            thread.join()
            metrics.flush()

    def object(self, uri: str) -> bytes:
        """Once it is there."""
        until(lambda: uri in self.objects.kept)
        return self.objects.kept[uri]

    def waiting(self) -> int:
        return QueueStore(self.database).backlog(SCOPE, "e").count


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ExitStack() as resources:
        yield resources.enter_context(running())


def test_a_request_is_accepted_at_once_and_its_result_comes_later(
    house: House, server: ModelServer
) -> None:
    house.objects.kept["s3://b/in.json"] = b"[1]"
    with house.emulator(server) as client:
        answer = client.invoke_endpoint_async(
            EndpointName="e",
            InputLocation="s3://b/in.json",
            ContentType="text/csv",
            Accept="application/json",
            InferenceId="mine",
        )
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
        assert answer["InferenceId"] == "mine"
        assert answer["OutputLocation"].startswith("s3://b/out/")
        assert answer["OutputLocation"].endswith(".out")
        assert answer["FailureLocation"].endswith("-error.out")
        assert house.object(answer["OutputLocation"]) == b"[1]"
        until(lambda: not house.waiting())
        ((_, headers, _),) = server.seen
        assert headers["content-type"] == "text/csv"
        assert headers["accept"] == "application/json"
        assert headers["x-amzn-sagemaker-inference-id"] == "mine"
        with pytest.raises(ClientError, match="takes only InvokeEndpointAsync"):
            client.invoke_endpoint(EndpointName="e", Body=b"x")
    assert {"TimeInBacklog", "TotalProcessingTime", "InvocationsProcesssed"} <= house.samples.names


def test_a_body_of_its_own_and_a_name_for_the_result(house: House, server: ModelServer) -> None:
    with house.emulator(server) as client:
        answer = client.invoke_endpoint_async(
            EndpointName="e", Body=b"x", S3OutputPathExtension="a/b", Filename="mine.json"
        )
        assert answer["OutputLocation"] == "s3://b/out/a/b/mine.json"
        assert house.object(answer["OutputLocation"]) == b"x"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"InputLocation": "s3://b/none"}, b"cannot be read"),
        ({"Body": b"x", "CustomAttributes": "fail"}, b"server error (500)"),
        (
            {"Body": b"x", "CustomAttributes": "hang", "InvocationTimeoutSeconds": 1},
            b"timed out",
        ),
    ],
)
def test_failures_are_written_too(
    house: House, server: ModelServer, request_: dict[str, Any], words: bytes
) -> None:
    with house.emulator(server) as client:
        answer = client.invoke_endpoint_async(EndpointName="e", **request_)
        assert words in house.object(answer["FailureLocation"])
        until(lambda: not house.waiting())
        assert answer["OutputLocation"] not in house.objects.kept
        server.release.set()
    assert "InvocationFailures" in house.samples.names


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"Body": bytes(128_001)},
        {"Body": b"x", "InputLocation": "s3://b/in"},
        {"Body": b"x", "InvocationTimeoutSeconds": 3601},
        {"Body": b"x", "RequestTTLSeconds": 59},
    ],
)
def test_requests_that_are_refused(
    house: House, server: ModelServer, request_: dict[str, Any]
) -> None:
    with house.emulator(server) as client:
        with pytest.raises(ClientError) as error:
            client.invoke_endpoint_async(EndpointName="e", **request_)
        assert error.value.response["Error"]["Code"] == "ValidationError"
    assert house.waiting() == 0


def test_so_many_at_once_as_the_configuration_says(house: House, server: ModelServer) -> None:
    with house.emulator(server) as client:
        answers = [
            client.invoke_endpoint_async(EndpointName="e", Body=b"x", CustomAttributes="hang")
            for _ in range(5)
        ]
        until(lambda: len(server.seen) == 2)
        time.sleep(0.2)
        assert len(server.seen) == 2
        server.release.set()
        assert [house.object(each["OutputLocation"]) for each in answers] == [b"late"] * 5


def test_the_next_emulator_goes_on_with_what_was_accepted(
    house: House, server: ModelServer
) -> None:
    with house.emulator(server) as client:
        answers = [
            client.invoke_endpoint_async(EndpointName="e", Body=b"x", CustomAttributes="hang")
            for _ in range(3)
        ]
        until(lambda: len(server.seen) == 2)  # two are being worked on, and one waits
    assert house.waiting() == 3
    assert not house.objects.kept
    server.release.set()
    with house.emulator(server):
        assert [house.object(each["OutputLocation"]) for each in answers] == [b"late"] * 3
        until(lambda: not house.waiting())


def test_a_result_waits_for_the_object_store(house: House, server: ModelServer) -> None:
    house.objects.refusals = 1
    with house.emulator(server) as client:
        answer = client.invoke_endpoint_async(EndpointName="e", Body=b"x")
        assert house.object(answer["OutputLocation"]) == b"x"
    assert len(server.seen) == 1


def test_requests_go_with_their_endpoint(house: House, server: ModelServer) -> None:
    with house.emulator(server) as client:
        client.invoke_endpoint_async(EndpointName="e", Body=b"x", CustomAttributes="hang")
        until(lambda: len(server.seen) == 1)
        house.endpoints.delete(ENDPOINT, SCOPE, "e")
        until(lambda: not house.waiting())


CAPTURE = Capture(
    S3Uri("b", "cap"), 100, True, True, csv_types=("text/csv",), json_types=("application/json",)
)


def test_captured_data_is_there_at_the_end(house: House, server: ModelServer) -> None:
    with house.emulator(server, capture=CAPTURE) as client:
        for kind in ("text/csv", "application/json", "image/png"):
            client.invoke_endpoint(
                EndpointName="e", Body=b"1,2", ContentType=kind, Accept=kind, InferenceId="mine"
            )
    ((where, content),) = house.objects.kept.items()
    assert where.startswith("s3://b/cap/e/AllTraffic/20")
    assert where.endswith(".jsonl")
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["captureData"]["endpointInput"] for line in lines] == [
        {"observedContentType": kind, "mode": "INPUT", "data": data, "encoding": encoding}
        for kind, data, encoding in (
            ("text/csv", "1,2", "CSV"),
            ("application/json", "1,2", "JSON"),
            ("image/png", "MSwy", "BASE64"),
        )
    ]
    assert all(line["captureData"]["endpointOutput"]["mode"] == "OUTPUT" for line in lines)
    assert {line["eventMetadata"]["inferenceId"] for line in lines} == {"mine"}
    assert all(line["eventMetadata"]["inferenceTime"].endswith("Z") for line in lines)
    assert {line["eventVersion"] for line in lines} == {"0"}


def test_a_full_megabyte_of_captured_data_is_written_at_once(
    house: House, server: ModelServer
) -> None:
    with house.emulator(server, capture=CAPTURE) as client:
        client.invoke_endpoint(EndpointName="e", Body=bytes(1 << 20))
        until(lambda: bool(house.objects.kept))
