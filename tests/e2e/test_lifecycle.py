"""Stops, limits, spot interruptions, retries, faults and warm pools, as boto3 users meet them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.config
import botocore.exceptions
import pytest
from e2e_jobs import (
    ADMIN_ROUTES_REFUSED,
    ask_for_admin_routes,
    channel,
    files_in_tar,
    log_lines,
    run,
    shell_request,
    wait,
    wait_for,
)
from emulators import RunningEmulator, start_emulator

LONG = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
INTERNAL_ERROR = "InternalServerError: We encountered an internal error. Please try again."
SPOT: dict[str, Any] = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
}
SETTINGS = """
stop_grace_seconds = 5
spot_notice_seconds = 5
faults = [{ kind = "CapacityError", job = "from-settings-*" }]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator of this module's own: faults must not befall anybody else."""
    folder = tmp_path_factory.mktemp("lifecycle")
    config = folder / "emulator.toml"
    config.write_text(SETTINGS)
    running = start_emulator(folder / "state", "--config", str(config))
    running.client("s3").create_bucket(Bucket="lifecycle")
    running.client("s3").put_object(Bucket="lifecycle", Key="data/train/a.csv", Body=b"1,2\n")
    yield running
    running.end()


@pytest.fixture
def control(place: RunningEmulator) -> Iterator[Control]:
    control = Control(place)
    yield control
    control.send("DELETE", "faults")


class Control:
    """The emulator's own routes."""

    def __init__(self, place: RunningEmulator):
        self.place = place

    def send(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.place.url}/_emulator/{path}",
            data=None if document is None else json.dumps(document).encode(),
            headers={"content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def seed(self, **fault: Any) -> dict[str, Any]:
        added: dict[str, Any] = self.send("POST", "faults", fault)
        return added

    def client(self, service: str, **more: Any) -> Any:
        """A client that does not try again."""
        return self.place.client(
            service, config=botocore.config.Config(retries={"total_max_attempts": 1}), **more
        )


@pytest.fixture
def sagemaker(place: RunningEmulator) -> Any:
    return place.client("sagemaker")


def job_request(command: str, **changes: Any) -> dict[str, Any]:
    return shell_request("lifecycle", command, **changes)


def statuses(job: Mapping[str, Any]) -> list[str]:
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


def until(sagemaker: Any, name: str, status: str) -> dict[str, Any]:
    return wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == status)


def until_logged(place: RunningEmulator, name: str, line: str) -> None:
    """Wait for a line of algo-1."""
    logs, deadline = place.client("logs"), time.monotonic() + 60
    while True:
        try:
            if line in log_lines(logs, name):
                return
        except (ValueError, botocore.exceptions.ClientError):
            pass  # there is no stream yet
        assert time.monotonic() < deadline, f"{name} never said {line}"
        time.sleep(0.05)


def status_of(answer: pytest.ExceptionInfo[Any]) -> tuple[int, str, str]:
    response = answer.value.response
    return (
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Code"],
        response["Error"]["Message"],
    )


def test_a_fault_from_the_settings(sagemaker: Any) -> None:
    """The first of all: the others clear what they find."""
    job = run(sagemaker, job_request("true", TrainingJobName=f"from-settings-{time.time_ns()}"))
    assert job["FailureReason"] == (
        "CapacityError: Unable to provision requested ML compute capacity. "
        "Please retry using a different ML instance type."
    )
    assert statuses(job) == ["Starting", "Failed"]


def test_stop_while_training(place: RunningEmulator, sagemaker: Any) -> None:
    body = job_request(
        "trap 'echo saved > /opt/ml/model/m; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    )
    name = body["TrainingJobName"]
    sagemaker.create_training_job(**body)
    until_logged(place, name, "ready")
    sagemaker.stop_training_job(TrainingJobName=name)
    job = wait(sagemaker, name)
    assert statuses(job)[2:] == ["Training", "Stopping", "Uploading", "Stopped"]
    model = files_in_tar(place.client("s3"), job["ModelArtifacts"]["S3ModelArtifacts"])
    assert model == {"m": b"saved\n"}
    with pytest.raises(botocore.exceptions.ClientError) as error:
        sagemaker.stop_training_job(TrainingJobName=name)
    assert "is in status Stopped." in str(error.value)


def test_stop_before_training(sagemaker: Any, control: Control) -> None:
    control.seed(kind="SlowImagePull", seconds=300)
    body = job_request("echo never")
    sagemaker.create_training_job(**body)
    until(sagemaker, body["TrainingJobName"], "Downloading")
    sagemaker.stop_training_job(TrainingJobName=body["TrainingJobName"])
    job = wait(sagemaker, body["TrainingJobName"])
    assert statuses(job) == ["Starting", "Downloading", "Stopping", "Stopped"]
    assert "ModelArtifacts" not in job


def test_max_runtime(sagemaker: Any) -> None:
    job = run(sagemaker, job_request(LONG, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_an_interrupted_spot_job_goes_on(
    place: RunningEmulator, sagemaker: Any, control: Control
) -> None:
    control.seed(kind="SpotInterruption", after_seconds=3, seconds=1)
    name = f"spot-{time.time_ns()}"
    job = run(
        sagemaker,
        job_request(
            "c=/opt/ml/checkpoints; [ -e $c/step ] && { cat $c/step; exit 0; };"
            " echo step 7 > $c/step; trap 'exit 0' TERM; while :; do sleep 0.05; done",
            TrainingJobName=name,
            CheckpointConfig={"S3Uri": "s3://lifecycle/checkpoints/"},
            **SPOT,
        ),
    )
    once = ["Starting", "Downloading", "Training"]
    assert statuses(job) == [*once, "Interrupted", *once, "Uploading", "Completed"]
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    stored = place.client("s3").get_object(Bucket="lifecycle", Key="checkpoints/step")
    assert stored["Body"].read() == b"step 7\n"


def test_interrupting_by_hand(place: RunningEmulator, sagemaker: Any, control: Control) -> None:
    body = job_request(LONG, **SPOT)
    name = body["TrainingJobName"]
    sagemaker.create_training_job(**body)
    until_logged(place, name, "ready")
    control.send("POST", f"training-jobs/{name}/interrupt?seconds=300")
    until(sagemaker, name, "Interrupted")
    sagemaker.stop_training_job(TrainingJobName=name)
    assert statuses(wait(sagemaker, name))[-3:] == ["Interrupted", "Stopping", "Stopped"]
    for path, status in ((name, 409), ("no-such-job", 404)):
        with pytest.raises(urllib.error.HTTPError) as error:
            control.send("POST", f"training-jobs/{path}/interrupt")
        assert error.value.code == status


def test_max_wait(sagemaker: Any, control: Control) -> None:
    control.seed(kind="SpotInterruption", after_seconds=0.5, seconds=300)
    # Longer than the notice, which a loaded machine may need to the end.
    limits = {"MaxRuntimeInSeconds": 10, "MaxWaitTimeInSeconds": 10}
    job = run(
        sagemaker,
        job_request(LONG, EnableManagedSpotTraining=True, StoppingCondition=limits),
    )
    assert statuses(job)[-3:] == ["Interrupted", "Stopping", "MaxWaitTimeExceeded"]
    assert job["TrainingJobStatus"] == "Stopped"


def test_lost_instances_are_retried(sagemaker: Any, control: Control) -> None:
    control.seed(kind="InstanceFailure", host="algo-2", after_seconds=1)
    twice = {"RetryStrategy": {"MaximumRetryAttempts": 1}}
    job = run(sagemaker, job_request("sleep 5", instances=2, **twice))
    assert statuses(job).count("Starting") == 2
    assert job["TrainingJobStatus"] == "Completed"
    failed = run(sagemaker, job_request("sleep 60", instances=2))
    assert failed["FailureReason"] == INTERNAL_ERROR


@pytest.mark.parametrize("stage", ["Starting", "Downloading", "Training", "Uploading"])
def test_internal_errors(sagemaker: Any, control: Control, stage: str) -> None:
    control.seed(kind="InternalServerError", stage=stage)
    job = run(sagemaker, job_request("sleep 1"))
    assert job["FailureReason"] == INTERNAL_ERROR
    assert statuses(job)[-2:] == [stage, "Failed"]


def test_throttling_and_internal_failures(sagemaker: Any, control: Control) -> None:
    control.seed(kind="ThrottlingException", operation="List*", times=1)
    control.seed(kind="InternalFailure", operation="DescribeTrainingJob", times=1)
    impatient = control.client("sagemaker")
    with pytest.raises(botocore.exceptions.ClientError) as throttled:
        impatient.list_training_jobs()
    assert status_of(throttled) == (400, "ThrottlingException", "Rate exceeded")
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        impatient.describe_training_job(TrainingJobName="job")
    assert status_of(failed)[:2] == (500, "InternalFailure")
    control.seed(kind="ThrottlingException", operation="ListTrainingJobs", times=2)
    assert "TrainingJobSummaries" in sagemaker.list_training_jobs(), "botocore tries again"
    assert [fault["taken"] for fault in control.send("GET", "faults")["faults"]] == [1, 1, 2]


def test_slow_and_failing_s3(sagemaker: Any, control: Control) -> None:
    s3 = control.client("s3")
    slow = control.seed(kind="SlowS3", bucket="lifecycle", seconds=0.7)
    began = time.monotonic()
    s3.head_object(Bucket="lifecycle", Key="data/train/a.csv")
    assert time.monotonic() - began >= 0.7
    control.send("DELETE", f"faults/{slow['id']}")
    control.seed(kind="SlowDown", bucket="lifecycle", times=1)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.get_object(Bucket="lifecycle", Key="data/train/a.csv")
    assert status_of(refused) == (503, "SlowDown", "Please reduce your request rate.")
    control.seed(kind="SlowDown", bucket="lifecycle", times=99)
    job = run(
        sagemaker,
        job_request("true", InputDataConfig=[channel("lifecycle", "train")]),
    )
    assert "SlowDown (503): Please reduce your request rate." in job["FailureReason"]


def test_what_is_no_fault(control: Control) -> None:
    for wrong in ({"kind": "Earthquake"}, {}, {"kind": "SlowS3", "secnds": 1}):
        with pytest.raises(urllib.error.HTTPError) as error:
            control.send("POST", "faults", wrong)
        assert error.value.code == 400


@pytest.mark.parametrize("text", [b"", b"{no", b"[1]", b'"a"', b"\xff"])
def test_what_is_no_document(control: Control, text: bytes) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{control.place.url}/_emulator/faults", text, timeout=60)
    assert error.value.code == 400
    assert isinstance(json.load(error.value)["detail"], str)


def test_warm_pools(place: RunningEmulator, sagemaker: Any) -> None:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 7}
    cache = "/opt/ml/sagemaker/warmpoolcache/file"

    def pooled(command: str, seconds: int) -> dict[str, Any]:
        kept = {**resources, "KeepAlivePeriodInSeconds": seconds}
        return run(sagemaker, {**job_request(command), "ResourceConfig": kept})

    one = pooled(f"echo from one > {cache}", 600)
    assert one["WarmPoolStatus"] == {"Status": "Available"}
    with pytest.raises(botocore.exceptions.ClientError) as error:
        sagemaker.delete_training_job(TrainingJobName=one["TrainingJobName"])
    assert status_of(error)[1] == "ResourceInUse"
    two = pooled(f"cat {cache}", 600)
    assert log_lines(place.client("logs"), two["TrainingJobName"])[-1] == "from one"
    one = sagemaker.describe_training_job(TrainingJobName=one["TrainingJobName"])
    assert one["WarmPoolStatus"]["Status"] == "Reused"
    assert one["WarmPoolStatus"]["ReusedByJob"] == two["TrainingJobName"]
    assert one["SecondaryStatusTransitions"][-1]["StatusMessage"] == (
        f"Resource reused by training job: {two['TrainingJobName']}"
    )
    available = sagemaker.list_training_jobs(WarmPoolStatusEquals="Available", MaxResults=100)
    names = [job["TrainingJobName"] for job in available["TrainingJobSummaries"]]
    assert names == [two["TrainingJobName"]]
    sagemaker.update_training_job(
        TrainingJobName=two["TrainingJobName"], ResourceConfig={"KeepAlivePeriodInSeconds": 0}
    )
    two = sagemaker.describe_training_job(TrainingJobName=two["TrainingJobName"])
    assert two["WarmPoolStatus"]["Status"] == "Terminated"
    assert two["WarmPoolStatus"]["ResourceRetainedBillableTimeInSeconds"] >= 0
    sagemaker.delete_training_job(TrainingJobName=two["TrainingJobName"])
    with pytest.raises(botocore.exceptions.ClientError, match="Requested resource not found"):
        sagemaker.describe_training_job(TrainingJobName=two["TrainingJobName"])


def test_an_emulator_that_ends_within_the_grace_of_a_stop(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    state = tmp_path_factory.mktemp("grace") / "state"
    first = start_emulator(state)
    first.client("s3").create_bucket(Bucket="lifecycle")
    body = job_request("trap '' TERM; echo ready; sleep 300")
    name = body["TrainingJobName"]
    sagemaker = first.client("sagemaker")
    sagemaker.create_training_job(**body)
    until_logged(first, name, "ready")
    sagemaker.stop_training_job(TrainingJobName=name)
    until(sagemaker, name, "Stopping")
    first.end()
    second = start_emulator(state)
    try:
        job = second.client("sagemaker").describe_training_job(TrainingJobName=name)
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
        assert "FailureReason" not in job
    finally:
        second.end()


def test_a_job_has_no_admin_routes(control: Control) -> None:
    fault = control.seed(kind="CapacityError", job="nobody")
    assert ask_for_admin_routes(control.place, "lifecycle") == ADMIN_ROUTES_REFUSED
    assert fault["id"] in [kept["id"] for kept in control.send("GET", "faults")["faults"]]
