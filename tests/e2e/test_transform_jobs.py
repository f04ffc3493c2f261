"""Batch transform jobs, in both runtimes, with a container that answers what it is sent."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from e2e_endpoints import PATIENCE, Hosting
from emulators import start_emulator
from own_serving import build_image

pytestmark = pytest.mark.timeout(600)

DATA = "transform-data"
GROUP = "/aws/sagemaker/TransformJobs"


class Batch(Hosting):
    """Transform jobs of one emulator."""

    @property
    def s3(self) -> Any:
        return self.emulator.client("s3")

    def data(self, **objects: bytes) -> str:
        """A prefix with these objects; two underscores in a name stand for a slash."""
        prefix = f"in-{uuid.uuid4().hex[:8]}"
        for name, content in objects.items():
            key = f"{prefix}/{name.replace('__', '/')}"
            self.s3.put_object(Bucket=DATA, Key=key, Body=content)
        return f"s3://{DATA}/{prefix}/"

    def begin(
        self, model: str, source: str, given: Any = None, wanted: Any = None, **more: Any
    ) -> str:
        """Create a job; `given` and `wanted` go into TransformInput and TransformOutput."""
        name = f"Job-{uuid.uuid4().hex[:8]}"
        kind = more.pop("S3DataType", "S3Prefix")
        count = more.pop("InstanceCount", 1)
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=model,
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": source}},
                **(given or {}),
            },
            TransformOutput={"S3OutputPath": f"s3://{DATA}/{name}", **(wanted or {})},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": count},
            **more,
        )
        return name

    def of(self, name: str) -> Any:
        return self.sagemaker.describe_transform_job(TransformJobName=name)

    def ended(self, name: str) -> Any:
        """The job once it has ended."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.of(name))["TransformJobStatus"] in ("InProgress", "Stopping"):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def run(self, *arguments: Any, **more: Any) -> dict[str, bytes]:
        """Begin a job, wait until it is Completed, and give its outputs by name."""
        name = self.begin(*arguments, **more)
        described = self.ended(name)
        assert described["TransformJobStatus"] == "Completed", described
        return self.outputs(name)

    def outputs(self, name: str) -> dict[str, bytes]:
        found = self.s3.list_objects_v2(Bucket=DATA, Prefix=f"{name}/").get("Contents", [])
        return {
            each["Key"].removeprefix(f"{name}/"): self.s3.get_object(Bucket=DATA, Key=each["Key"])[
                "Body"
            ].read()
            for each in found
        }

    def lines(self, name: str, of_data: bool = False) -> list[str]:
        """The log of a job's containers, or of its requests."""
        logs = self.emulator.client("logs")
        streams = [
            each["logStreamName"]
            for each in logs.describe_log_streams(
                logGroupName=GROUP, logStreamNamePrefix=f"{name}/"
            )["logStreams"]
        ]
        return [
            event["message"]
            for stream in streams
            if stream.endswith("/data-log") == of_data
            for event in logs.get_log_events(
                logGroupName=GROUP, logStreamName=stream, startFromHead=True
            )["events"]
        ]

    def await_invocation(self, name: str) -> None:
        """Wait until the container works on a request."""
        deadline = time.monotonic() + PATIENCE
        while not any("invocation of" in line for line in self._lines_so_far(name)):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _lines_so_far(self, name: str) -> list[str]:
        try:
            return self.lines(name)
        except ClientError:
            return []


def make_batch(runtime: str, state: Path) -> Batch:
    batch = Batch(start_emulator(state, runtime=runtime), runtime)
    batch.s3.create_bucket(Bucket=DATA)
    return batch


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batch]:
    made = make_batch("process", tmp_path_factory.mktemp("transform") / "state")
    yield made
    made.emulator.end()


@pytest.fixture(scope="module")
def model(batch: Batch) -> str:
    return batch.model()


def check_whole_objects(batch: Batch, model: str) -> None:
    source = batch.data(a=b"one", below__b=b"\x00\xff", empty=b"")
    name = batch.begin(model, source, {"ContentType": "application/x-mine"})
    described = batch.ended(name)
    assert described["TransformJobStatus"] == "Completed", described
    assert described["TransformStartTime"] <= described["TransformEndTime"]
    assert described["TransformInput"]["SplitType"] == "None"
    assert described["DataProcessing"]["JoinSource"] == "None"
    assert batch.outputs(name) == {"a.out": b"one", "below/b.out": b"\x00\xff", "empty.out": b""}
    assert "starting, faults []" in batch.lines(name)
    assert "BatchStrategy=MULTI_RECORD" in batch.lines(name, of_data=True)[0]


def test_whole_objects(batch: Batch, model: str) -> None:
    check_whole_objects(batch, model)


@pytest.mark.docker
def test_whole_objects_in_containers(tmp_path: Path) -> None:
    build_image()
    batch = make_batch("docker", tmp_path / "state")
    try:
        check_whole_objects(batch, batch.model())
    finally:
        batch.emulator.end()


def test_lines_in_order_over_several_instances(batch: Batch, model: str) -> None:
    first = b"".join(b"%d\n" % number for number in range(60))
    source = batch.data(x=first, y=gzip.compress(b"last"))
    outputs = batch.run(
        model,
        f"{source}x",
        {"SplitType": "Line"},
        {"AssembleWith": "Line"},
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=4,
        InstanceCount=2,
    )
    assert outputs == {"x.out": first}
    outputs = batch.run(
        model, f"{source}y", {"SplitType": "Line", "CompressionType": "Gzip"}, MaxPayloadInMB=1
    )
    assert outputs == {"y.out": b"last"}


def test_a_manifest(batch: Batch, model: str) -> None:
    source = batch.data(a=b"1", below__b=b"2", c=b"3")
    batch.s3.put_object(
        Bucket=DATA, Key="list", Body=json.dumps([{"prefix": source}, "below/b", "c"]).encode()
    )
    outputs = batch.run(model, f"s3://{DATA}/list", S3DataType="ManifestFile")
    assert outputs == {"below/b.out": b"2", "c.out": b"3"}


def test_what_the_container_sees(batch: Batch, model: str) -> None:
    outputs = batch.run(
        model,
        batch.data(a=b"1"),
        {"ContentType": "text/csv"},
        {"Accept": "application/json"},
        Environment={"SERVE_FAULTS": "describe", "MINE": "yes"},
        MaxPayloadInMB=2,
    )
    seen = json.loads(outputs["a.out"])
    assert seen["headers"]["Content-Type"] == "text/csv"
    assert seen["headers"]["Accept"] == "application/json"
    environment = seen["environment"]
    assert (environment["SAGEMAKER_BATCH"], environment["MINE"]) == ("true", "yes")
    assert environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "2"
    assert "SAGEMAKER_BATCH_STRATEGY" not in environment
    assert seen["model"] == ["model/serve"]


def test_the_container_chooses_how_it_is_asked(batch: Batch, model: str) -> None:
    asked = {"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 5}
    name = batch.begin(
        model,
        batch.data(a=b"1\n2\n"),
        {"SplitType": "Line"},
        Environment={"EXECUTION_PARAMETERS": json.dumps(asked)},
    )
    assert batch.ended(name)["TransformJobStatus"] == "Completed"
    assert batch.outputs(name) == {"a.out": b"1\n2\n"}
    (line,) = batch.lines(name, of_data=True)
    assert line.endswith("MaxConcurrentTransforms=3, MaxPayloadInMB=5, BatchStrategy=SINGLE_RECORD")


def test_results_are_joined_with_their_records(batch: Batch, model: str) -> None:
    outputs = batch.run(
        model,
        batch.data(a=b"id1,1,2\nid2,3,4\n"),
        {"SplitType": "Line", "ContentType": "text/csv"},
        {"AssembleWith": "Line", "Accept": "text/csv"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    assert outputs == {"a.out": b"id1,2\nid2,4\n"}
    outputs = batch.run(
        model,
        batch.data(a=b'{"id":1,"x":[1]}\n{"id":2,"x":[2]}\n'),
        {"SplitType": "Line", "ContentType": "application/jsonlines"},
        {"AssembleWith": "Line", "Accept": "application/jsonlines"},
        DataProcessing={
            "InputFilter": "$.x",
            "JoinSource": "Input",
            "OutputFilter": "$['id','SageMakerOutput']",
        },
        BatchStrategy="SingleRecord",
    )
    assert [json.loads(line) for line in outputs["a.out"].splitlines()] == [
        {"id": 1, "SageMakerOutput": [1]},
        {"id": 2, "SageMakerOutput": [2]},
    ]


@pytest.mark.parametrize(
    ("faults", "reason", "line"),
    [
        ("status=500", "AlgorithmError: See job logs", "Received server error (500)"),
        ("status=400", "ClientError: See job logs", "told to fail"),
        ("hang=4", "AlgorithmError: See job logs", "Received server error (0)"),
        ("die", "AlgorithmError: See job logs", "Received server error (0)"),
    ],
)
def test_a_request_that_fails(
    batch: Batch, model: str, faults: str, reason: str, line: str
) -> None:
    name = batch.begin(
        model,
        batch.data(a=b"1"),
        Environment={"SERVE_FAULTS": faults},
        ModelClientConfig={"InvocationsMaxRetries": 1, "InvocationsTimeoutInSeconds": 1},
    )
    described = batch.ended(name)
    assert described["TransformJobStatus"] == "Failed"
    assert described["FailureReason"].startswith(reason)
    assert any(line in each for each in batch.lines(name, of_data=True))
    assert batch.outputs(name) == {}


def test_a_record_that_is_too_large(batch: Batch, model: str) -> None:
    name = batch.begin(model, batch.data(a=bytes(2 << 20)), MaxPayloadInMB=1)
    reason = batch.ended(name)["FailureReason"]
    assert reason.startswith("ClientError: See job logs for more information")
    assert "/a: Too much data for max payload size" in batch.lines(name, of_data=True)[-1]
    whole = os.urandom(9 << 20)
    assert batch.run(model, batch.data(a=whole), MaxPayloadInMB=0) == {"a.out": whole}


def test_a_container_that_does_not_start(batch: Batch, model: str) -> None:
    name = batch.begin(model, batch.data(a=b"1"), Environment={"SERVE_FAULTS": "exit"})
    described = batch.ended(name)
    assert described["TransformJobStatus"] == "Failed"
    assert "CannotStartContainerError" in described["FailureReason"]
    assert "told to exit" in described["FailureReason"]


def test_a_job_is_stopped(batch: Batch, model: str) -> None:
    name = batch.begin(model, batch.data(a=b"1"), Environment={"SERVE_FAULTS": "hang=12"})
    batch.await_invocation(name)
    batch.sagemaker.stop_transform_job(TransformJobName=name)
    described = batch.ended(name)
    assert described["TransformJobStatus"] == "Stopped"
    assert "FailureReason" not in described
    with pytest.raises(ClientError, match="the transform job is in status Stopped"):
        batch.sagemaker.stop_transform_job(TransformJobName=name)


@pytest.mark.sdk
def test_sdk_v2_unchanged(batch: Batch, model: str, sdk_v2: Path) -> None:
    container = batch.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]
    done = subprocess.run(
        [
            sdk_v2,
            Path(__file__).parent / "sdk_scripts" / "transform_v2.py",
            container["Image"],
            container["ModelDataUrl"],
            DATA,
            json.dumps(container["Environment"]),
        ],
        capture_output=True,
        text=True,
        env=batch.emulator.environment,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"ROWS {json.dumps('id1,2' + chr(10) + 'id2,4' + chr(10))}" in done.stdout
    assert "starting, faults []" in done.stdout  # the containers' log is shown
