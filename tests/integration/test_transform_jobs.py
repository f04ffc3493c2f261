"""Transform jobs on a small HTTP server, with objects in memory and an engine of the test."""

from __future__ import annotations

import asyncio
import gzip
import io
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from model_servers import ModelServer, running

from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Invocations
from emulator.aws.operation import Call
from emulator.aws.services import transform_jobs
from emulator.aws.transforms.jobs import ENDED, TransformJobs
from emulator.aws.transforms.objects import PatientObjects
from emulator.data.objectstore.failures import Cancelled, StoreError
from emulator.data.objectstore.listing import ObjectInfo
from emulator.data.objectstore.objects import ObjectStore
from emulator.database import Database
from emulator.model.errors import ApiError
from emulator.model.hosting import Endpoint, EndpointStatus
from emulator.model.scope import Scope
from emulator.parts import SCHEMA
from emulator.resources.hosting import read_deployment
from emulator.settings import Settings
from emulator.workloads.serving.routes import RoutedVariant, Routes, Table, Target
from emulator.workloads.serving.store import ENDPOINT, MODEL, HostingStore, Resource, endpoint_row

SCOPE = Scope("123456789012", "us-west-2")
REQUEST: dict[str, Any] = {
    "TransformJobName": "job",
    "ModelName": "m",
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}},
        "SplitType": "Line",
        "ContentType": "text/csv",
    },
    "TransformOutput": {"S3OutputPath": "s3://b/out", "Accept": "text/csv", "AssembleWith": "Line"},
    "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    "BatchStrategy": "SingleRecord",
    "MaxConcurrentTransforms": 4,
}


class Objects:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def list(self, _: str, prefix: str) -> Iterator[ObjectInfo]:
        for key in [each for each in self.kept if each.startswith(prefix)]:
            yield ObjectInfo(key, len(self.kept[key]), "")

    def read(self, _: str, key: str) -> Iterator[bytes]:
        if key not in self.kept:
            raise StoreError("NoSuchKey", 404, "no such key")
        yield self.kept[key]

    def upload(self, _: str, key: str, stream: IO[bytes]) -> None:
        stream.seek(0)
        self.kept[key] = stream.read()

    def end(self) -> None:
        pass


class Engine:
    """Instances are there at once: the server of the test."""

    def __init__(self, store: HostingStore, routes: Routes, server: ModelServer):
        self._store = store
        self._routes = routes
        self._server = server

    def create(self, endpoint: Endpoint) -> None:
        assert endpoint.pending is not None
        (spec,) = endpoint.pending.variants
        serving = replace(
            endpoint, status=EndpointStatus.IN_SERVICE, current=endpoint.pending, pending=None
        )
        self._store.create(endpoint_row(serving))
        target = Target("i-1", self._server.dial)
        table = Table(endpoint.pending, (RoutedVariant(spec, (target,)),))
        self._routes.open(endpoint.scope, endpoint.name).publish(table)

    def delete(self, scope: Scope, name: str) -> None:
        self._store.delete(ENDPOINT, scope, name)
        self._routes.close(scope, name)


class Samples:
    """Keeps nothing."""

    def put(self, *_: object) -> None:
        return


class House:
    def __init__(self, directory: Path, server: ModelServer):
        self.store = HostingStore(Database(directory / "state.db", SCHEMA), read_deployment)
        self.objects = Objects()
        self.routes = Routes()
        self.server = server
        model = {"ModelName": "m", "PrimaryContainer": {"Image": "i"}}
        self.store.create(Resource(MODEL, SCOPE, "m", 1.0, 1.0, model))

    def run(self, steps: Callable[[Callable[..., Any]], Any]) -> Any:
        """Let a thread ask for operations while the jobs run."""

        async def main() -> Any:
            engine = Engine(self.store, self.routes, self.server)
            jobs = TransformJobs(self.store, engine, self.objects)  # type: ignore[arg-type]
            handlers = transform_jobs.operations(jobs, self.store)
            runtime = Invocations(self.routes, Settings(), InvocationMetrics(Samples()))
            await jobs.start(runtime)

            def ask(operation: str, **params: Any) -> Any:
                return handlers[operation](Call(SCOPE, params))

            try:
                return await asyncio.to_thread(steps, ask)
            finally:
                await jobs.close()

        return asyncio.run(main())


def ended(ask: Callable[..., Any], name: str = "job") -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        described: dict[str, Any] = ask("DescribeTransformJob", TransformJobName=name)
        if described["TransformJobStatus"] in ENDED:
            return described
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with running() as server:
        yield House(tmp_path, server)


def test_every_object_of_the_input_has_an_output(house: House) -> None:
    house.objects.kept |= {"in/a.csv": b"1\n2\n3\n", "in/sub/b.csv": b"4\n"}

    def steps(ask: Callable[..., Any]) -> Any:
        ask("CreateTransformJob", **REQUEST)
        with pytest.raises(ApiError) as error:
            ask("CreateTransformJob", **REQUEST)
        assert error.value.code == "ResourceInUse"
        job = ended(ask)
        (listed,) = ask("ListTransformJobs")["TransformJobSummaries"]
        assert listed["TransformJobStatus"] == "Completed"
        return job

    job = house.run(steps)
    assert job["TransformJobStatus"] == "Completed"
    assert job["TransformStartTime"] <= job["TransformEndTime"]
    assert house.objects.kept["out/a.csv.out"] == b"1\n2\n3\n"
    assert house.objects.kept["out/sub/b.csv.out"] == b"4\n"
    assert {headers["content-type"] for _, headers, _ in house.server.seen} == {"text/csv"}
    assert house.store.all(ENDPOINT) == []


def test_a_manifest_and_gzip(house: House) -> None:
    house.objects.kept |= {
        "list": b'[{"prefix": "s3://b/data/"}, "x"]',
        "data/x": gzip.compress(b"1\n"),
        "data/y": b"not asked for",
    }
    source = {"S3DataType": "ManifestFile", "S3Uri": "s3://b/list"}
    given = {
        **REQUEST["TransformInput"],
        "DataSource": {"S3DataSource": source},
        "CompressionType": "Gzip",
    }

    def steps(ask: Callable[..., Any]) -> Any:
        ask("CreateTransformJob", **{**REQUEST, "TransformInput": given})
        return ended(ask)

    assert house.run(steps)["TransformJobStatus"] == "Completed"
    assert house.objects.kept["out/x.out"] == b"1\n"
    assert "out/y.out" not in house.objects.kept


def test_failures(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(ask: Callable[..., Any]) -> Any:
        ask("CreateTransformJob", **REQUEST)
        nothing = ended(ask)
        house.objects.kept["in/a.csv"] = b"1\n"
        monkeypatch.setattr(house.server, "fails", True)
        ask("CreateTransformJob", **{**REQUEST, "TransformJobName": "second"})
        return nothing, ended(ask, "second")

    nothing, failing = house.run(steps)
    assert nothing["TransformJobStatus"] == failing["TransformJobStatus"] == "Failed"
    assert "No S3 objects found under" in nothing["FailureReason"]
    assert failing["FailureReason"].startswith("AlgorithmError: See job logs")
    assert "out/a.csv.out" not in house.objects.kept


def test_a_job_is_stopped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.objects.kept["in/a.csv"] = b"1\n"
    monkeypatch.setattr(house.server, "hangs", True)

    def steps(ask: Callable[..., Any]) -> Any:
        ask("CreateTransformJob", **REQUEST)
        while not house.server.seen:
            time.sleep(0.01)
        ask("StopTransformJob", TransformJobName="job")
        job = ended(ask)
        with pytest.raises(ApiError, match="is in status Stopped"):
            ask("StopTransformJob", TransformJobName="job")
        return job

    assert house.run(steps)["TransformJobStatus"] == "Stopped"
    assert house.store.all(ENDPOINT) == []


def test_the_next_emulator_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.objects.kept["in/a.csv"] = b"1\n"

    def begin(ask: Callable[..., Any]) -> None:
        ask("CreateTransformJob", **REQUEST)
        while not house.server.seen:
            time.sleep(0.01)

    with monkeypatch.context() as patch:
        patch.setattr(house.server, "hangs", True)
        house.run(begin)
    house.server.release.set()
    assert house.run(ended)["TransformJobStatus"] == "Completed"
    assert house.objects.kept["out/a.csv.out"] == b"1\n"


def test_the_end_is_recorded_once_the_disk_has_room(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.objects.kept["in/a.csv"] = b"1\n"
    update, failures = house.store.update, []

    def fails_once(kind: str, scope: Scope, name: str, step: Callable[..., Any]) -> Resource:
        if "out/a.csv.out" in house.objects.kept and not failures:
            failures.append(name)
            raise sqlite3.OperationalError("database or disk is full")
        return update(kind, scope, name, step)

    monkeypatch.setattr(house.store, "update", fails_once)

    def steps(ask: Callable[..., Any]) -> Any:
        ask("CreateTransformJob", **REQUEST)
        return ended(ask)

    assert house.run(steps)["TransformJobStatus"] == "Completed"
    assert failures == ["job"]
    assert house.store.all(ENDPOINT) == []


def test_requests_of_several_objects_are_on_their_way_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"in/{number:02}" for number in range(12)]
    house.objects.kept |= {name: name.encode() for name in names}
    monkeypatch.setattr(house.server, "hangs", True)
    given = {**REQUEST["TransformInput"], "SplitType": "None"}

    def steps(ask: Callable[..., Any]) -> Any:
        ask("CreateTransformJob", **{**REQUEST, "TransformInput": given})
        deadline = time.monotonic() + 60
        while len(house.server.seen) < 4:
            assert time.monotonic() < deadline, "requests are sent one by one"
            time.sleep(0.01)
        house.server.release.set()
        return ended(ask)

    assert house.run(steps)["TransformJobStatus"] == "Completed"
    outputs = {f"{name.replace('in', 'out', 1)}.out": f"{name}\n".encode() for name in names}
    assert {key: each for key, each in house.objects.kept.items() if key in outputs} == outputs


def test_an_upload_that_breaks_off_is_repeated_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore("http://127.0.0.1:1", "key", "secret")
    uploads: list[bytes] = []

    def upload(_: str, __: str, stream: IO[bytes]) -> None:
        uploads.append(stream.read(4) if not uploads else stream.read())
        if len(uploads) == 1:
            raise StoreError("ServiceUnavailable", 503, "it is starting")

    monkeypatch.setattr(store, "upload", upload)
    objects = PatientObjects(store)
    objects.upload("b", "k", io.BytesIO(b"the whole"))
    assert uploads == [b"the ", b"the whole"]
    objects.end()
    uploads.clear()
    with pytest.raises(Cancelled):
        objects.upload("b", "k", io.BytesIO(b"the whole"))
