"""What scripts leave in their directories, and what is in S3 of it: while they run and after."""

from __future__ import annotations

import hashlib
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_jobs import files_in_tar, log_lines, run, script_request, shell_request, wait, wait_for
from emulators import start_emulator

RESUMING = """
import os, pathlib
folder = pathlib.Path(os.environ.get("CHECKPOINTS", "/opt/ml/checkpoints"))
steps = sorted(int(p.stem) for p in folder.glob("*.step"))
first = steps[-1] + 1 if steps else 0
print(f"starting at step {first}", flush=True)
for step in range(first, first + 3):
    (folder / f"{step}.step").write_text(f"weights of {step}")
    for old in sorted(folder.glob("*.step"), key=lambda p: int(p.stem))[:-2]:
        old.unlink()
pathlib.Path(os.environ["SM_MODEL_DIR"], "last").write_text(str(step))
"""


def keys(s3: Any, bucket: str, prefix: str) -> list[str]:
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [entry["Key"].removeprefix(prefix) for entry in listed]


def body(s3: Any, bucket: str, key: str) -> bytes:
    data: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return data


def eventually(true: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


@pytest.mark.parametrize("local_path", [None, "/state"])
def test_a_second_job_goes_on_where_the_first_one_ended(
    sagemaker: Any, logs: Any, s3: Any, bucket: str, local_path: str | None
) -> None:
    prefix = f"resume{(local_path or '').replace('/', '-')}"
    checkpoints = {"S3Uri": f"s3://{bucket}/{prefix}/"}
    environment = {}
    if local_path:
        checkpoints["LocalPath"] = environment["CHECKPOINTS"] = local_path
    for expected in ("starting at step 0", "starting at step 3"):
        request = script_request(
            s3,
            bucket,
            {"train.py": RESUMING},
            CheckpointConfig=checkpoints,
            Environment=environment,
        )
        job = run(sagemaker, request)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert job["CheckpointConfig"] == checkpoints
        assert expected in "\n".join(log_lines(logs, job["TrainingJobName"]))
    # What the script deleted is deleted, also what came from S3.
    assert keys(s3, bucket, f"{prefix}/") == ["4.step", "5.step"]
    assert body(s3, bucket, f"{prefix}/5.step") == b"weights of 5"


def test_every_instance_is_given_the_checkpoints_and_a_manifest(
    sagemaker: Any, logs: Any, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="given/a/b", Body=b"x")
    command = (
        "cat /opt/ml/input/data/checkpoints-manifest; find /opt/ml/checkpoints -type f;"
        "echo $(hostname) > /opt/ml/checkpoints/$(hostname)"
    )
    request = shell_request(
        bucket, command, instances=2, CheckpointConfig={"S3Uri": f"s3://{bucket}/given"}
    )
    job = run(sagemaker, request)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    for host in ("algo-1", "algo-2"):
        assert log_lines(logs, job["TrainingJobName"], host)[-3:] == [
            "given",
            f"s3://{bucket}/given/a/b",
            "/opt/ml/checkpoints/a/b",
        ]
    assert keys(s3, bucket, "given/") == ["a/b", "algo-1", "algo-2"]


def test_checkpoints_and_tensorboard_are_there_while_the_job_runs_and_after_its_stop(
    sagemaker: Any, s3: Any, bucket: str
) -> None:
    command = (
        "mkdir -p /opt/ml/output/tensorboard; cd /opt/ml/checkpoints;"
        "trap 'echo late > late; exit 0' TERM; echo 1 > first; exec 3> open; echo part >&3;"
        "while :; do echo event >> /opt/ml/output/tensorboard/events; sleep 0.1; done"
    )
    request = shell_request(
        bucket,
        command,
        CheckpointConfig={"S3Uri": f"s3://{bucket}/live/c"},
        TensorBoardOutputConfig={"S3OutputPath": f"s3://{bucket}/live/tb"},
    )
    name = request["TrainingJobName"]
    sagemaker.create_training_job(**request)
    board = f"live/tb/{name}/tensorboard-output/"
    eventually(lambda: keys(s3, bucket, "live/c/") and keys(s3, bucket, board))
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert job["SecondaryStatus"] == "Training"
    assert keys(s3, bucket, "live/c/") == ["first"], "a file that is still open waits"
    assert body(s3, bucket, f"{board}events").startswith(b"event\n")
    sagemaker.stop_training_job(TrainingJobName=name)
    assert wait(sagemaker, name)["TrainingJobStatus"] == "Stopped"
    assert keys(s3, bucket, "live/c/") == ["first", "late", "open"]


def test_a_failed_job_leaves_its_checkpoints(sagemaker: Any, s3: Any, bucket: str) -> None:
    request = shell_request(
        bucket,
        "echo 1 > /opt/ml/checkpoints/c; exit 3",
        CheckpointConfig={"S3Uri": f"s3://{bucket}/failed"},
    )
    job = run(sagemaker, request)
    assert job["FailureReason"] == "AlgorithmError: , exit code: 3"
    assert keys(s3, bucket, "failed/") == ["c"]


def test_checkpoints_outlive_the_instances_of_a_spot_job(
    emulator: Any, sagemaker: Any, s3: Any, logs: Any, bucket: str
) -> None:
    command = (
        "cd /opt/ml/checkpoints; [ -f late ] && echo resumed && exit 0;"
        "trap 'echo late > late; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    )
    request = shell_request(
        bucket,
        command,
        CheckpointConfig={"S3Uri": f"s3://{bucket}/spot"},
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
    )
    name = request["TrainingJobName"]
    sagemaker.create_training_job(**request)
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    eventually(lambda: "ready" in log_lines(logs, name))
    address = f"{emulator.url}/_emulator/training-jobs/{name}/interrupt"
    with urllib.request.urlopen(urllib.request.Request(address, method="POST")) as answer:
        assert answer.status == 202
    job = wait(sagemaker, name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "Interrupted" in [t["Status"] for t in job["SecondaryStatusTransitions"]]
    assert keys(s3, bucket, "spot/") == ["late"]


def test_the_toolkits_own_intermediate_output(sagemaker: Any, s3: Any, bucket: str) -> None:
    script = (
        "import os, pathlib, time\n"
        "folder = pathlib.Path(os.environ['SM_OUTPUT_INTERMEDIATE_DIR'])\n"
        "(folder / 'metrics.txt').write_text('42')\n"
        "time.sleep(3)\n"
    )
    request = script_request(
        s3,
        bucket,
        {"train.py": script},
        hyperparameters={"sagemaker_s3_output": f"s3://{bucket}/intermediate"},
    )
    job = run(sagemaker, request)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    found = keys(s3, bucket, "intermediate/")
    assert [key for key in found if key.endswith("/output/intermediate/metrics.txt")]


def test_outputs_that_s3_does_not_take_are_kept(
    sagemaker: Any, s3: Any, logs: Any, bucket: str, emulator: Any
) -> None:
    s3.create_bucket(Bucket="short-lived-bucket")
    request = shell_request(
        bucket,
        "echo m > /opt/ml/model/m; echo d > /opt/ml/output/data/d; "
        "until [ -e /opt/ml/output/enough ]; do sleep 0.05; done",
        OutputDataConfig={"S3OutputPath": "s3://short-lived-bucket/out"},
    )
    name = request["TrainingJobName"]
    sagemaker.create_training_job(**request)
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    s3.delete_bucket(Bucket="short-lived-bucket")
    (output,) = (emulator.state_dir / "jobs").glob(f"*/*/{name}/algo-1/ml/output")
    (output / "enough").touch()
    job = wait(sagemaker, name)
    assert job["TrainingJobStatus"] == "Failed"
    reason = job["FailureReason"]
    assert reason.startswith("ClientError: Artifact upload failed:Error 7: NoSuchBucket (404): ")
    place = Path(reason.removesuffix(".").rpartition(" ")[2])
    assert place.is_relative_to(emulator.state_dir)
    assert (place / "algo-1/model/m").read_text() == "m\n"
    assert (place / "algo-1/output/d").read_text() == "d\n"
    assert log_lines(logs, job["TrainingJobName"])[-1] == reason


def test_members_about_keys_and_links_are_kept_and_echoed(
    sagemaker: Any, s3: Any, bucket: str
) -> None:
    output = {"S3OutputPath": f"s3://{bucket}/odd", "KmsKeyId": "alias/mine"}
    command = (
        "cd /opt/ml/model; mkdir 'a b'; echo x > 'a b/ü+%'; ln -s 'a b/ü+%' link;"
        "truncate -s 64M sparse"
    )
    job = run(sagemaker, shell_request(bucket, command, OutputDataConfig=output))
    assert job["OutputDataConfig"]["KmsKeyId"] == "alias/mine"
    files = files_in_tar(s3, job["ModelArtifacts"]["S3ModelArtifacts"])
    assert files["a b/ü+%"] == files["link"] == b"x\n"
    assert len(files["sparse"]) == 64 << 20


WRITER = """
import hashlib, os, pathlib
folder = pathlib.Path("/opt/ml/checkpoints")
n = 0
while True:
    data = os.urandom(4 << 20)
    with open(folder / f"{n % 5}.bin", "wb") as file:
        for start in range(0, len(data), 1 << 16):
            file.write(data[start:start + (1 << 16)])
        file.write(hashlib.sha256(data).digest())
    n += 1
"""


def test_nothing_torn_is_in_s3_after_a_kill_in_the_middle_of_a_sync(
    tmp_path: Path,
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("sync_seconds = 0.2\n")
    flags = ("--config", str(settings))
    first = start_emulator(tmp_path / "state", *flags)
    s3: Any = first.client("s3")
    s3.create_bucket(Bucket="kill")
    settled = "echo done > /opt/ml/checkpoints/settled"
    request = script_request(
        s3,
        "kill",
        {"train.py": f"import os\nos.system({settled!r})\n{WRITER}"},
        CheckpointConfig={"S3Uri": "s3://kill/c"},
    )
    name = request["TrainingJobName"]
    sagemaker: Any = first.client("sagemaker")
    sagemaker.create_training_job(**request)
    eventually(lambda: "settled" in keys(s3, "kill", "c/"))
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    eventually(lambda: any((tmp_path / "state" / "jobs").rglob("checkpoints/*.bin")))
    time.sleep(2)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(60)
    second = start_emulator(tmp_path / "state", *flags)
    try:
        job = wait(second.client("sagemaker"), name)
        assert job["TrainingJobStatus"] == "Failed"
        s3 = second.client("s3")
        found = keys(s3, "kill", "c/")
        assert "settled" in found
        for key in found:
            data = body(s3, "kill", f"c/{key}")
            if key != "settled":
                assert hashlib.sha256(data[:-32]).digest() == data[-32:], f"{key} is torn"
        kept = list((tmp_path / "state" / "kept").rglob("*.bin"))
        assert kept, "what may be torn is not thrown away"
        assert "They were not uploaded" in log_lines(second.client("logs"), name)[-1]
    finally:
        second.end()
