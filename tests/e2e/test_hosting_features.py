"""What goes through endpoints beside plain requests, with a real emulator and its object store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_endpoints import BUCKET, PATIENCE, ROLE, Hosting, archive
from emulators import start_emulator
from own_serving import IMAGE, PROGRAM

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosting]:
    running = start_emulator(tmp_path_factory.mktemp("features") / "state", runtime="process")
    yield Hosting(running, "process")
    running.end()


def until(found: Callable[[], Any]) -> Any:
    """What is found, once it is something."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := found()):
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.1)
    return seen


def content(hosting: Hosting, uri: str) -> bytes | None:
    s3 = hosting.emulator.client("s3")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        answer: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    return answer


def endpoint(hosting: Hosting, name: str, **config: Any) -> str:
    """An endpoint in service whose configuration has more members."""
    variant = {
        "VariantName": "v1",
        "ModelName": hosting.model(),
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    hosting.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant], **config
    )
    hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert hosting.settled(name)["EndpointStatus"] == "InService"
    return name


def test_asynchronous_requests(hosting: Hosting) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed"}
    name = endpoint(hosting, "queued", AsyncInferenceConfig={"OutputConfig": output})
    hosting.emulator.client("s3").put_object(Bucket=BUCKET, Key="in", Body=b"large")
    answers = [
        hosting.invoker.invoke_endpoint_async(EndpointName=name, **request)
        for request in ({"InputLocation": f"s3://{BUCKET}/in"}, {"Body": b"small"})
    ]
    found = [until(lambda one=each: content(hosting, one["OutputLocation"])) for each in answers]
    assert found == [b"large", b"small"]
    gone = hosting.invoker.invoke_endpoint_async(
        EndpointName=name, InputLocation=f"s3://{BUCKET}/none"
    )
    assert b"cannot be read" in until(lambda: content(hosting, gone["FailureLocation"]))
    hosting.delete(name)


def test_captured_data_is_written_when_the_endpoint_is_deleted(hosting: Hosting) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    name = endpoint(hosting, "captured", DataCaptureConfig=capture)
    hosting.call(name, b"1,2", ContentType="text/csv")
    hosting.delete(name)
    s3 = hosting.emulator.client("s3")
    prefix = f"captured/{name}/v1/"
    listed = until(lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents"))
    (line,) = (content(hosting, f"s3://{BUCKET}/{listed[0]['Key']}") or b"").splitlines()
    sides = json.loads(line)["captureData"]
    assert sides["endpointInput"]["data"] == "1,2"
    assert sides["endpointOutput"]["mode"] == "OUTPUT"


def test_a_component_is_put_on_an_endpoint_and_taken_off(hosting: Hosting) -> None:
    sagemaker, name, model = hosting.sagemaker, "host", hosting.model()
    variant = {"VariantName": "v1", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hosting.settled(name)
    needs = {"MinMemoryRequiredInMb": 128}
    sagemaker.create_inference_component(
        InferenceComponentName="ic",
        EndpointName=name,
        VariantName="v1",
        Specification={"ModelName": model, "ComputeResourceRequirements": needs},
        RuntimeConfig={"CopyCount": 1},
    )

    def described() -> Any:
        return sagemaker.describe_inference_component(InferenceComponentName="ic")

    until(lambda: described()["InferenceComponentStatus"] != "Creating")
    assert described()["InferenceComponentStatus"] == "InService"
    hosting.settled(name)
    assert hosting.call(name, b"x", InferenceComponentName="ic") == b"x"
    sagemaker.delete_inference_component(InferenceComponentName="ic")
    hosting.settled(name)
    hosting.delete(name)


def transform(hosting: Hosting, name: str, **changes: Any) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/records/"}
    hosting.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=hosting.model(),
        TransformInput={
            "DataSource": {"S3DataSource": source},
            "SplitType": "Line",
            "ContentType": "text/csv",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        BatchStrategy="SingleRecord",
        **changes,
    )


def test_a_transform_job_goes_on_after_a_kill_of_the_emulator(tmp_path: Path) -> None:
    running = start_emulator(tmp_path / "state", runtime="process")
    hosting = Hosting(running, "process")
    hosting.model()  # makes the bucket
    s3 = running.client("s3")
    for key, rows in (("a.csv", b"1,2\n3,4\n"), ("sub/b.csv", b"5,6\n")):
        s3.put_object(Bucket=BUCKET, Key=f"records/{key}", Body=rows)
    transform(hosting, "job", DataProcessing={"InputFilter": "$[1]", "JoinSource": "Input"})
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    running = start_emulator(tmp_path / "state", runtime="process")
    hosting = Hosting(running, "process")

    def described() -> Any:
        return hosting.sagemaker.describe_transform_job(TransformJobName="job")

    until(lambda: described()["TransformJobStatus"] != "InProgress")
    assert described()["TransformJobStatus"] == "Completed", described()
    assert content(hosting, f"s3://{BUCKET}/job/a.csv.out") == b"1,2,2\n3,4,4\n"
    assert content(hosting, f"s3://{BUCKET}/job/sub/b.csv.out") == b"5,6,6\n"
    assert hosting.sagemaker.list_endpoints()["Endpoints"] == []
    streams = running.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix="job/"
    )
    assert streams["logStreams"]
    running.end()


def test_a_model_is_deployed_from_the_command_line(hosting: Hosting, tmp_path: Path) -> None:
    model, url = tmp_path / "mine.tar.gz", hosting.emulator.exports["AWS_ENDPOINT_URL"]
    model.write_bytes(archive(serve=PROGRAM.read_bytes()))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "emulator", *words, "--endpoint-url", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    for _ in ("created", "updated"):
        serve = f"EMULATOR_SERVE={sys.executable} serve"
        done = run("deploy", str(model), "--image", IMAGE, "--env", serve)
        assert done.stdout.startswith("mine: InService"), done.stderr
    assert run("invoke", "mine", "--body", "x").stdout == "x"
    assert "mine" in run("endpoints").stdout
    assert "starting, faults []" in run("logs", "mine").stdout
    assert run("delete", "mine").stdout == "mine: deleted\n"
    assert "no training job nothing" in run("delete", "nothing").stderr
