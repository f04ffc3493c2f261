"""Training jobs through boto3: what happens, what it says, and what is left in S3."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from e2e_jobs import (
    channel,
    files_in_tar,
    log_lines,
    run,
    script_request,
    shell_request,
    wait,
    wait_for,
)

DDP = """
import json, os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(rank)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    loss = model(torch.randn(8, 4)).pow(2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
weights = [torch.empty(4) for _ in range(world)]
dist.all_gather(weights, model.module.weight.detach().flatten())
assert all(torch.equal(weights[0], other) for other in weights), "replicas differ"
print(f"rank {rank} of {world} on {os.environ['SM_CURRENT_HOST']} done", flush=True)
path = os.path.join(os.environ["SM_MODEL_DIR"], f"model-{rank}.pth")
torch.save(model.module.state_dict(), path)
dist.barrier()
dist.destroy_process_group()
# Gloo's threads outlive the group, and abort where one of them wakes in an interpreter that ends.
sys.stdout.flush()
os._exit(0)
"""


def test_torchrun_trains_over_two_instances(
    sagemaker: Any, logs: Any, s3: Any, bucket: str
) -> None:
    body = script_request(
        s3,
        bucket,
        {"train.py": DDP},
        instances=2,
        hyperparameters={"sagemaker_torch_distributed_enabled": True},
        channels=["train"],
    )
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert any(
        "rank 0 of 2 on algo-1 done" in line for line in log_lines(logs, job["TrainingJobName"])
    )
    assert any(
        "rank 1 of 2 on algo-2 done" in line
        for line in log_lines(logs, job["TrainingJobName"], "algo-2")
    )
    models = files_in_tar(s3, job["ModelArtifacts"]["S3ModelArtifacts"])
    # The models of both instances are merged into one archive.
    assert sorted(models) == ["model-0.pth", "model-1.pth"]


def test_the_life_of_a_job_reads_as_on_the_service(sagemaker: Any, bucket: str) -> None:
    job = run(sagemaker, shell_request(bucket, "echo ok"))
    transitions = job["SecondaryStatusTransitions"]
    assert [(t["Status"], t["StatusMessage"]) for t in transitions] == [
        ("Starting", "Preparing the instances for training"),
        ("Downloading", "Downloading the training image"),
        ("Training", "Training image download completed. Training in progress."),
        ("Uploading", "Uploading generated training model"),
        ("Completed", "Training job completed"),
    ]
    assert transitions[0]["StartTime"] == job["CreationTime"]
    assert transitions[1]["StartTime"] == job["TrainingStartTime"]
    assert transitions[-1]["StartTime"] == transitions[-1]["EndTime"] == job["TrainingEndTime"]
    for earlier, later in pairwise(transitions):
        assert earlier["EndTime"] == later["StartTime"]
    assert job["LastModifiedTime"] >= job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"]


def test_an_instance_sees_what_a_training_container_sees(
    sagemaker: Any, logs: Any, bucket: str
) -> None:
    command = (
        'hostname; cat /opt/ml/input/data/train/numbers.csv; echo "$GREETING";'
        'echo "$TRAINING_JOB_NAME";'
        "getent hosts algo-1 algo-2 | wc -l; env | grep -c ^SM_;"
        "touch /opt/ml/input/x /opt/ml/input/data/train/y /opt/ml/model/m /opt/ml/output/data/d"
        " /opt/ml/checkpoints/c /tmp/t && echo writable"
    )
    body = shell_request(
        bucket,
        'eval "$COMMAND"',  # an argument has at most 256 characters
        instances=2,
        InputDataConfig=[channel(bucket, "train")],
        Environment={"GREETING": "hello", "COMMAND": command},
    )
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    for host in ("algo-1", "algo-2"):
        said = log_lines(logs, job["TrainingJobName"], host)
        wanted = [host, "1,2", "3,4", "hello", job["TrainingJobName"], "2", "0", "writable"]
        assert [line for line in said if line in wanted] == wanted


def test_outputs_of_an_instance_come_back_through_s3(sagemaker: Any, s3: Any, bucket: str) -> None:
    command = (
        "mkdir -p /opt/ml/model/sub; echo m > /opt/ml/model/sub/m; echo d > /opt/ml/output/data/d"
    )
    job = run(sagemaker, shell_request(bucket, command))
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{bucket}/out/{job['TrainingJobName']}/output/model.tar.gz"
    assert files_in_tar(s3, uri) == {"sub/m": b"m\n"}
    assert files_in_tar(s3, uri.replace("model.tar", "output.tar")) == {"d": b"d\n"}


def test_uncompressed_outputs(sagemaker: Any, s3: Any, bucket: str) -> None:
    output = {"S3OutputPath": f"s3://{bucket}/plain/", "CompressionType": "NONE"}
    job = run(sagemaker, shell_request(bucket, "echo m > /opt/ml/model/m", OutputDataConfig=output))
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    key = uri.removeprefix(f"s3://{bucket}/").rstrip("/")
    assert s3.get_object(Bucket=bucket, Key=f"{key}/m")["Body"].read() == b"m\n"


def test_a_script_that_exits_3_says_so(sagemaker: Any, s3: Any, bucket: str) -> None:
    body = script_request(s3, bucket, {"train.py": "import sys; sys.exit(3)"})
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError:\nExitCode 3")
    assert job["FailureReason"].endswith(", exit code: 1")
    assert "ModelArtifacts" not in job


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 3", "AlgorithmError: , exit code: 3"),
        ("sh -c 'kill -SEGV $$'; exit $?", "AlgorithmError: , exit code: 139"),
        (
            "echo -n 'it broke' > /opt/ml/output/failure; exit 1",
            "AlgorithmError: it broke, exit code: 1",
        ),
        ("no-such-program", "AlgorithmError: , exit code: 127"),
    ],
)
def test_failure_reasons(sagemaker: Any, bucket: str, command: str, reason: str) -> None:
    job = run(sagemaker, shell_request(bucket, command))
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", reason)
    assert job["SecondaryStatusTransitions"][-1]["StatusMessage"] == "Training job failed"


def test_a_rank_that_dies_ends_the_job_while_its_peer_waits(
    sagemaker: Any, s3: Any, bucket: str
) -> None:
    script = (
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "if dist.get_rank() == 1: raise SystemExit('rank 1 gives up')\n"
        "dist.barrier()\n"
    )
    body = script_request(
        s3,
        bucket,
        {"train.py": script},
        instances=2,
        hyperparameters={"sagemaker_torch_distributed_enabled": True},
    )
    job = run(sagemaker, body)
    assert job["TrainingJobStatus"] == "Failed"
    assert "rank 1 gives up" in job["FailureReason"] or "ExitCode 1" in job["FailureReason"]


def test_a_missing_source_and_a_missing_entry_point(sagemaker: Any, s3: Any, bucket: str) -> None:
    missing = script_request(
        s3, bucket, {"train.py": ""}, hyperparameters={"sagemaker_program": "absent.py"}
    )
    job = run(sagemaker, missing)
    assert job["TrainingJobStatus"] == "Failed"
    assert "absent.py" in job["FailureReason"]
    no_tar = script_request(
        s3,
        bucket,
        {"train.py": ""},
        hyperparameters={"sagemaker_submit_directory": f"s3://{bucket}/absent.tar.gz"},
    )
    job = run(sagemaker, no_tar)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")


def test_stop_ends_a_job_and_keeps_its_model(
    sagemaker: Any, logs: Any, s3: Any, bucket: str
) -> None:
    command = (
        "trap 'echo caught; echo late > /opt/ml/model/m; exit 0' TERM;"
        "echo started; while :; do sleep 0.1; done"
    )
    body = shell_request(bucket, command)
    name = body["TrainingJobName"]
    sagemaker.create_training_job(**body)
    wait_for(sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    while "started" not in log_lines(logs, name):
        time.sleep(0.05)
    sagemaker.stop_training_job(TrainingJobName=name)
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] in (
        "Stopping",
        "Stopped",
    )
    job = wait(sagemaker, name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "FailureReason" not in job
    assert "caught" in log_lines(logs, name)
    assert files_in_tar(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"m": b"late\n"}
    with pytest.raises(sagemaker.exceptions.ClientError) as refusal:
        sagemaker.stop_training_job(TrainingJobName=name)
    assert refusal.value.response["Error"]["Message"] == (
        "The request was rejected because the training job is in status Stopped."
    )


def test_every_line_is_there_when_the_job_turns_terminal(
    sagemaker: Any, logs: Any, bucket: str
) -> None:
    job = run(sagemaker, shell_request(bucket, "seq 1 20000; printf 'a\\tb'"))
    said = log_lines(logs, job["TrainingJobName"])
    numbers = [line for line in said if line.isdigit()]
    assert numbers == [str(number) for number in range(1, 20001)]
    # The service's log agent writes tabs this way.
    assert said[-1] == "a#011b"


@pytest.mark.parametrize("sequence", ["a//b", "a/../b"])
def test_a_prefix_that_would_leave_the_channel_is_never_trained_on(
    sagemaker: Any, s3: Any, bucket: str, sequence: str
) -> None:
    """The embedded store cannot hold such keys; tests/unit/storage has them."""
    s3.put_object(Bucket=bucket, Key="a/b/data", Body=b"x")
    body = shell_request(bucket, "echo ran", InputDataConfig=[channel(bucket, "train", sequence)])
    try:
        job = run(sagemaker, body)
    except sagemaker.exceptions.ClientError as refusal:
        message = refusal.response["Error"]["Message"]
        job = {"TrainingJobStatus": "", "FailureReason": message}
    if job["FailureReason"].startswith("No S3 objects found under S3 URL"):
        return  # the store itself does not find anything under such a prefix
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(
        "ClientError: Data download failed:Failed to download data. "
        f"S3 key: s3://{bucket}/{sequence} has an illegal char sub-sequence "
    )
