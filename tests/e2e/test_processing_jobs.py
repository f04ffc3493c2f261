"""Processing jobs over boto3 and the SDKs: what goes in, what comes out, and how they end."""

from __future__ import annotations

import gzip
import json
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import e2e_jobs
import pytest
from botocore.exceptions import ClientError
from e2e_processing import (
    cluster,
    log_lines,
    objects,
    request,
    result,
    run,
    source,
    wait,
    wait_for_line,
)
from emulators import RunningEmulator, start_emulator
from test_commands import run as command
from test_restart import processes_below
from test_sdks import SCRIPTS, run_script

WHOLE = """
import json, os, sys
print("args", *sys.argv[1:], os.environ["WHO"])
with open("/opt/ml/config/resourceconfig.json") as file:
    host = json.load(file)["current_host"]
with open("/opt/ml/config/processingjobconfig.json") as file:
    config = json.load(file)
outputs = config["ProcessingOutputConfig"]["Outputs"]
print("job", config["ProcessingJobName"], outputs[0]["OutputName"])
root = "/opt/ml/processing"
print("shard", *sorted(os.listdir(root + "/input/shard")))
print("all", *sorted(os.listdir(root + "/input")))
print("pipe", *open(root + "/pipes/numbers_0").read().split())
os.makedirs(root + "/output/deep/er")
for path in ("output/deep/er", "input/inside", "live"):
    with open(f"{root}/{path}/{host}.txt", "w") as file:
        print("from", host, file=file)
with open("/opt/ml/output/message", "w") as file:
    file.write(f"{host} is done. ")
"""


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    running = start_emulator(tmp_path_factory.mktemp("docker") / "state", runtime="docker")
    yield running
    running.end()


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def either(request: pytest.FixtureRequest) -> RunningEmulator:
    """An emulator of either runtime."""
    name = "emulator" if request.param == "process" else "containers"
    running: RunningEmulator = request.getfixturevalue(name)
    return running


def bucket_of(emulator: RunningEmulator) -> str:
    """A new bucket with four small objects, one packed object and the script above."""
    s3, bucket = emulator.client("s3"), f"processing-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    for name in "abcd":
        s3.put_object(Bucket=bucket, Key=f"data/{name}.txt", Body=f"{name}\n".encode())
    s3.put_object(Bucket=bucket, Key="packed/n.gz", Body=gzip.compress(b"1\n2\n"))
    s3.put_object(Bucket=bucket, Key="code/whole.py", Body=WHOLE.encode())
    s3.put_object(Bucket=bucket, Key="live/before.txt", Body=b"was here\n")
    return bucket


def test_all_that_goes_in_and_out_of_two_instances(either: RunningEmulator) -> None:
    sagemaker, logs, s3 = (either.client(name) for name in ("sagemaker", "logs", "s3"))
    bucket = bucket_of(either)
    body = request(
        "",
        result(bucket, "results", "output/"),
        result(bucket, "inside", "input/inside"),
        result(bucket, "live", "live", "Continuous"),
        AppSpecification={
            "ImageUri": e2e_jobs.IMAGE,
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/whole.py"],
            "ContainerArguments": ["--fast", "a b"],
        },
        Environment={"WHO": "me"},
        ProcessingResources=cluster(2),
        ProcessingInputs=[
            source(bucket, "everything", "data", "input"),
            source(bucket, "code", "code/whole.py", "input/code"),
            source(
                bucket, "shard", "data/", "input/shard", S3DataDistributionType="ShardedByS3Key"
            ),
            source(
                bucket,
                "../pipe",
                "packed",
                "pipes/numbers",
                S3InputMode="Pipe",
                S3CompressionType="Gzip",
            ),
        ],
        Tags=[{"Key": "team", "Value": "data"}],
        ExperimentConfig={"TrialComponentDisplayName": "first"},
    )
    name = body["ProcessingJobName"]
    sagemaker.create_processing_job(**body)
    sagemaker.get_waiter("processing_job_completed_or_stopped").wait(
        ProcessingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 180}
    )
    job = sagemaker.describe_processing_job(ProcessingJobName=name)
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["ExitMessage"] == "algo-1 is done. algo-2 is done. "
    assert job["CreationTime"] <= job["ProcessingStartTime"] <= job["ProcessingEndTime"]
    assert job["ExperimentConfig"] == {"TrialComponentDisplayName": "first"}
    for host, shard in (("algo-1", "a.txt c.txt"), ("algo-2", "b.txt d.txt")):
        lines = log_lines(logs, name, host)
        assert [line for line in lines if "shard" in line or "pipe" in line][-3:] == [
            f"shard {shard}",
            "all a.txt b.txt c.txt code d.txt inside shard",
            "pipe 1 2",
        ]
        assert "args --fast a b me" in lines
        assert f"job {name} results" in lines
    each = {f"algo-{n}.txt": f"from algo-{n}\n".encode() for n in (1, 2)}
    deep = {f"deep/er/{name}": text for name, text in each.items()}
    assert objects(s3, bucket, "results") == deep
    assert objects(s3, bucket, "inside") == each
    assert objects(s3, bucket, "live") == {**each, "before.txt": b"was here\n"}
    assert sagemaker.list_tags(ResourceArn=job["ProcessingJobArn"])["Tags"] == body["Tags"]
    [listed] = sagemaker.list_processing_jobs(NameContains=name, StatusEquals="Completed")[
        "ProcessingJobSummaries"
    ]
    assert listed == {key: job[key] for key in listed}


def test_a_job_that_fails_says_why_and_leaves_what_it_has(either: RunningEmulator) -> None:
    sagemaker, bucket = either.client("sagemaker"), bucket_of(either)
    command = (
        "echo some > /opt/ml/processing/out/some; echo no column x > /opt/ml/output/message; "
        "echo Traceback; exit 4"
    )
    job = run(sagemaker, request(command, result(bucket, "results", "out")))
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: , exit code: 4"
    assert job["ExitMessage"] == "no column x\n"
    assert objects(either.client("s3"), bucket, "results") == {"some": b"some\n"}
    assert "Traceback" in log_lines(either.client("logs"), job["ProcessingJobName"])


def test_a_message_that_is_no_text_fails_the_job(emulator: RunningEmulator) -> None:
    bucket = bucket_of(emulator)
    command = "printf '\\377\\376' > /opt/ml/output/message; echo o > /opt/ml/processing/out/o"
    job = run(emulator.client("sagemaker"), request(command, result(bucket, "results", "out")))
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: The text in /opt/ml/output/message is")
    assert "ExitMessage" not in job
    assert objects(emulator.client("s3"), bucket, "results") == {"o": b"o\n"}


def test_a_stopped_job_has_its_time_and_its_outputs(either: RunningEmulator) -> None:
    sagemaker, bucket = either.client("sagemaker"), bucket_of(either)
    command = (
        "trap 'head -c 100000000 /dev/zero > /opt/ml/processing/out/big; "
        "echo asked > /opt/ml/output/message; exit 0' TERM; "
        "echo started; while true; do sleep 0.1; done"
    )
    body = request(command, result(bucket, "results", "out"))
    name = body["ProcessingJobName"]
    sagemaker.create_processing_job(**body)
    wait_for_line(either, name, "started")
    sagemaker.stop_processing_job(ProcessingJobName=name)
    assert sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] in (
        *("Stopping", "Stopped"),
    )
    job = wait(sagemaker, name)
    assert job["ProcessingJobStatus"] == "Stopped"
    assert (job["ExitMessage"], job.get("FailureReason")) == ("asked\n", None)
    head = either.client("s3").head_object(Bucket=bucket, Key="results/big")
    assert head["ContentLength"] == 100_000_000
    with pytest.raises(ClientError, match="processing job is in status Stopped"):
        sagemaker.stop_processing_job(ProcessingJobName=name)


def test_a_job_at_its_time_limit_is_stopped(emulator: RunningEmulator) -> None:
    command = "trap exit TERM; while true; do sleep 0.1; done"
    body = request(command, StoppingCondition={"MaxRuntimeInSeconds": 1})
    job = run(emulator.client("sagemaker"), body)
    assert job["ProcessingJobStatus"] == "Stopped"
    assert job.get("FailureReason") is None


def test_a_training_and_a_processing_job_of_one_name(either: RunningEmulator) -> None:
    sagemaker, bucket = either.client("sagemaker"), bucket_of(either)
    command = "echo mine > /opt/ml/processing/out/mine; ls -d /opt/ml/*; echo up; sleep 2"
    body = request(command, result(bucket, "results", "out"))
    name = body["ProcessingJobName"]
    training = e2e_jobs.shell_request(bucket, "echo its > /opt/ml/model/its; echo up; sleep 2")
    training = {**training, "TrainingJobName": name}
    sagemaker.create_processing_job(**body)
    sagemaker.create_training_job(**training)
    processed, trained = wait(sagemaker, name), e2e_jobs.wait(sagemaker, name)
    assert processed["ProcessingJobStatus"] == "Completed", processed.get("FailureReason")
    assert trained["TrainingJobStatus"] == "Completed", trained.get("FailureReason")
    assert log_lines(either.client("logs"), name).count("up") == 1
    s3 = either.client("s3")
    assert objects(s3, bucket, "results") == {"mine": b"mine\n"}
    model = trained["ModelArtifacts"]["S3ModelArtifacts"]
    assert e2e_jobs.files_in_tar(s3, model) == {"its": b"its\n"}
    with pytest.raises(ClientError, match="ResourceInUse"):
        sagemaker.create_processing_job(**body)
    sagemaker.delete_processing_job(ProcessingJobName=name)
    with pytest.raises(ClientError, match=f"Could not find requested job with name: {name}"):
        sagemaker.describe_processing_job(ProcessingJobName=name)
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobName"] == name


def test_what_cannot_run_is_refused_when_it_is_created(emulator: RunningEmulator) -> None:
    sagemaker, bucket = emulator.client("sagemaker"), bucket_of(emulator)
    body = request("true")
    refusals: dict[str, dict[str, Any]] = {
        "has no ContainerEntrypoint, and the process runtime has no image": {
            "AppSpecification": {"ImageUri": e2e_jobs.IMAGE}
        },
        'No S3 objects found under S3 URL "s3://.*/nothing"': {
            "ProcessingInputs": [source(bucket, "i", "nothing", "in")]
        },
        'The S3 output path "s3://no-such-bucket/r" cannot be used': {
            "ProcessingOutputConfig": {"Outputs": [result("no-such-bucket", "r", "out")]}
        },
        "Cannot find repository|Cannot find the requested image": {
            "AppSpecification": {"ImageUri": "mine:1", "ContainerEntrypoint": ["true"]}
        },
    }
    for words, members in refusals.items():
        with pytest.raises(ClientError, match=words):
            sagemaker.create_processing_job(**{**body, **members})
    with pytest.raises(ClientError, match="Could not find requested job with name: nobody"):
        sagemaker.stop_processing_job(ProcessingJobName="nobody")


@pytest.mark.docker
def test_an_image_has_a_command_of_its_own(containers: RunningEmulator) -> None:
    """As `docker run`: without ContainerEntrypoint the image says what runs."""
    job = run(
        containers.client("sagemaker"),
        {
            **request(""),
            "AppSpecification": {"ImageUri": e2e_jobs.IMAGE, "ContainerArguments": ["echo", "hi"]},
        },
    )
    lines = log_lines(containers.client("logs"), job["ProcessingJobName"])
    assert lines[-1] == "hi", lines


def test_a_job_outlives_a_killed_emulator(tmp_path: Path) -> None:
    first = start_emulator(tmp_path / "state", leave=True)
    bucket = bucket_of(first)
    command = (
        "echo started; while [ ! -e /opt/ml/output/enough ]; do sleep 0.1; done; "
        "echo kept > /opt/ml/processing/out/kept; echo bye > /opt/ml/output/message; echo ended"
    )
    body = request(
        command,
        result(bucket, "results", "out"),
        ProcessingInputs=[source(bucket, "i", "data", "in")],
    )
    name = body["ProcessingJobName"]
    first.client("sagemaker").create_processing_job(**body)
    wait_for_line(first, name, "started")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(60)
    second = start_emulator(tmp_path / "state", leave=True)
    try:
        sagemaker = second.client("sagemaker")
        job = sagemaker.describe_processing_job(ProcessingJobName=name)
        assert job["ProcessingJobStatus"] == "InProgress"
        for output in (tmp_path / "state").glob(f"jobs/*/*/*{name}/algo-1/ml/output"):
            (output / "enough").touch()
        job = wait(sagemaker, name)
        assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
        assert job["ExitMessage"] == "bye\n"
        lines = log_lines(second.client("logs"), name)
        assert [line for line in lines if line in ("started", "ended")] == ["started", "ended"]
        assert objects(second.client("s3"), bucket, "results") == {"kept": b"kept\n"}
    finally:
        second.end()
    assert processes_below(tmp_path / "state") == []


@pytest.fixture
def sdk_bucket(either: RunningEmulator) -> str:
    """A bucket with data in `data/train` that the scripts of the SDKs read."""
    s3, bucket = either.client("s3"), f"processing-{uuid.uuid4().hex[:12]}"
    # Two SDKs that look for their default bucket at once would both want to make it.
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket="sagemaker-us-east-1-123456789012")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="data/train/numbers.csv", Body=b"1,2\n3,4\n")
    s3.put_object(Bucket=bucket, Key="data/train/more.csv", Body=b"5,6\n")
    return bucket


@pytest.mark.sdk
@pytest.mark.timeout(600)
def test_the_processors_of_both_sdks(
    either: RunningEmulator, sdk_v2: Path, sdk_v3: Path, sdk_bucket: str
) -> None:
    # There is no image for scikit-learn here, only the user's own environment.
    parts = (
        "script",
        "framework",
        "failing",
        *(("sklearn",) if "docker" not in str(either.state_dir) else ()),
    )
    with ThreadPoolExecutor(2) as pool:  # they wait most of the time
        v2 = pool.submit(
            run_script, sdk_v2, either, "process_v2.py", str(SCRIPTS), sdk_bucket, *parts
        )
        v3 = pool.submit(run_script, sdk_v3, either, "process_v3.py", str(SCRIPTS), sdk_bucket)
    assert "alone read ['1,2', '3,4'] with ['--fast', 'yes'] as me" in v2.result()
    assert "MESSAGE two lines" in v2.result()
    assert "FAILED Error for Processing job" in v2.result()
    assert "Failed. Reason: AlgorithmError: , exit code: 3." in v2.result()
    assert "alone read ['1,2', '3,4'] with ['--fast', 'yes'] as v3" in v3.result()
    assert "STATUS Completed" in v3.result()
    s3 = either.client("s3")
    for name in ("script", "script-v3", *(("scikit-learn",) if "sklearn" in parts else ())):
        assert objects(s3, sdk_bucket, f"processed/{name}") == {"alone.txt": b"2\n"}
    for name in ("framework", "framework-v3"):
        assert objects(s3, sdk_bucket, f"processed/{name}") == {
            "algo-1.txt": b"sum 11\n",
            "algo-2.txt": b"sum 10\n",
        }


def test_the_commands_know_processing_jobs(emulator: RunningEmulator) -> None:
    sagemaker = emulator.client("sagemaker")
    body = request("trap 'exit 0' TERM; echo line 1; while true; do sleep 0.1; done")
    name = body["ProcessingJobName"]
    sagemaker.create_processing_job(**body)
    wait_for_line(emulator, name, "line 1")
    rows = [line.split() for line in command(emulator, "jobs").stdout.splitlines()]
    assert [name, "processing", "InProgress"] in [row[:3] for row in rows]
    assert command(emulator, "stop", name, "--wait").stdout == f"{name}: Stopped\n"
    followed = command(emulator, "logs", name, "--follow")
    assert "algo-1 │ line 1" in followed.stdout
    assert f"{name} Stopped" in followed.stderr
    described = json.loads(command(emulator, "describe", name).stdout)
    assert described["ProcessingJobStatus"] == "Stopped"
    assert command(emulator, "delete", name).stdout == f"{name}: deleted\n"
    assert name not in command(emulator, "jobs", "--limit", "200").stdout
