"""What clients send and do: every body captured from the SDKs, the AWS CLI, SDK v2, SDK v3."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from e2e_jobs import IMAGE, shell_request, wait
from emulators import RunningEmulator, sdk_python, start_emulator

SCRIPTS = Path(__file__).parent / "sdk_scripts"
BODIES = {
    f"{path.parent.name}/{path.stem}": json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[1] / "data" / "requests").glob("*/*.json"))
    if not path.stem.startswith("deploy_")
}
REFUSED = {
    # As AWS does: Pipe and FastFile in one job.
    "v2/estimator_image": "Cannot use both 'Pipe' and 'FastFile' TrainingInputMode on the same "
    "Training Job."
}


# --- bodies captured from the SDKs -----------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator with all that the bodies name: a bucket, its objects, a file system."""
    root = tmp_path_factory.mktemp("bodies")
    sources = [
        channel["DataSource"]["FileSystemDataSource"]
        for body in BODIES.values()
        for channel in body.get("InputDataConfig", ())
        if "FileSystemDataSource" in channel["DataSource"]
    ]
    for source in sources:
        (root / "fsx" / source["DirectoryPath"].strip("/")).mkdir(parents=True, exist_ok=True)
    lines = {f'"{source["FileSystemId"]}" = "{root / "fsx"}"' for source in sources}
    config = root / "emulator.toml"
    images = 'images = ["my:latest", "myimage:latest", "*/my:latest"]'
    config.write_text("\n".join([images, "[file_systems]", *lines, ""]))
    emulator = start_emulator(root / "state", "--config", str(config))
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket="mybucket")
    for body in BODIES.values():
        for channel in body.get("InputDataConfig", ()):
            if uri := channel["DataSource"].get("S3DataSource", {}).get("S3Uri"):
                key = uri.removeprefix("s3://mybucket/")
                s3.put_object(Bucket="mybucket", Key=f"{key}/numbers.csv", Body=b"1,2\n")
    yield emulator
    emulator.end()


def lost(sent: Any, shown: Any, path: str = "") -> list[str]:
    """Where what is shown lacks something of what was sent, or says something else."""
    if isinstance(sent, dict) and isinstance(shown, dict):
        return [
            line
            for name, item in sent.items()
            for line in lost(item, shown.get(name), f"{path}.{name}")
        ]
    if isinstance(sent, list) and isinstance(shown, list) and len(sent) == len(shown):
        return [
            line
            for number, item in enumerate(sent)
            for line in lost(item, shown[number], f"{path}[{number}]")
        ]
    return [] if sent == shown else [f"{path}: {sent!r} became {shown!r}"]


@pytest.mark.parametrize("name", sorted(set(BODIES) - set(REFUSED)))
def test_what_an_sdk_sends_is_accepted_and_given_back(prepared: RunningEmulator, name: str) -> None:
    sagemaker, body = prepared.client("sagemaker"), BODIES[name]
    arn = sagemaker.create_training_job(**body)["TrainingJobArn"]
    shown = sagemaker.describe_training_job(TrainingJobName=body["TrainingJobName"])
    with suppress(ClientError):  # some have ended: this machine may lack their GPUs
        sagemaker.stop_training_job(TrainingJobName=body["TrainingJobName"])
    # These Describe does not have.
    elsewhere = {"Tags", "SessionChainingConfig"}
    assert lost({k: v for k, v in body.items() if k not in elsewhere}, shown) == []
    assert shown["OutputDataConfig"]["CompressionType"] in ("GZIP", "NONE")
    assert all("CompressionType" in channel for channel in shown.get("InputDataConfig", ()))
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == body.get("Tags", [])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_aws_refuses_is_refused(prepared: RunningEmulator, name: str) -> None:
    with pytest.raises(ClientError) as error:
        prepared.client("sagemaker").create_training_job(**BODIES[name])
    assert error.value.response["Error"]["Message"] == REFUSED[name]


# --- accounts and regions ----------------------------------------------------------------------


def test_accounts_and_regions_are_kept_apart(emulator: RunningEmulator, bucket: str) -> None:
    def client(service: str, account: str, region: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=emulator.url,
            region_name=region,
            aws_access_key_id=account,
            aws_secret_access_key="anything",
        )

    body = shell_request(bucket, "true", TrainingJobName=f"apart-{uuid.uuid4().hex[:8]}")
    places = [
        ("111122223333", "us-east-1"),
        ("111122223333", "eu-west-1"),
        ("444455556666", "us-east-1"),
    ]
    for account, region in places:
        sagemaker = client("sagemaker", account, region)
        assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
        arn = sagemaker.create_training_job(**body)["TrainingJobArn"]
        assert arn.startswith(f"arn:aws:sagemaker:{region}:{account}:")
        assert len(sagemaker.list_training_jobs()["TrainingJobSummaries"]) == 1
        assert client("sts", account, region).get_caller_identity()["Account"] == account
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(
            TrainingJobName=body["TrainingJobName"], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        groups = client("logs", account, region).describe_log_groups()["logGroups"]
        assert [group["logGroupName"] for group in groups] == ["/aws/sagemaker/TrainingJobs"]


# --- AWS CLI -----------------------------------------------------------------------------------


@pytest.mark.sdk
@pytest.mark.timeout(900)
def test_the_aws_cli(emulator: RunningEmulator, bucket: str, tmp_path: Path) -> None:
    program = sdk_python("cli").with_name("aws")

    def aws(*words: str) -> Any:
        done = subprocess.run(
            [program, "sagemaker", *words],
            capture_output=True,
            text=True,
            env=emulator.environment,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def await_end(name: str) -> None:
        # The CLI looks once a minute: its first look is to be the last.
        wait(emulator.client("sagemaker"), name)
        aws("wait", "training-job-completed-or-stopped", "--training-job-name", name)

    name = f"cli-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "job.json"
    file.write_text(json.dumps(shell_request(bucket, "echo by the CLI", TrainingJobName=name)))
    created = aws("create-training-job", "--cli-input-json", file.as_uri())
    assert created["TrainingJobArn"].endswith(f"training-job/{name}")
    await_end(name)
    assert aws("describe-training-job", "--training-job-name", name)["TrainingJobStatus"] == (
        "Completed"
    )
    listed = aws("list-training-jobs", "--name-contains", name, "--page-size", "1")
    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == [name]

    long = f"{name}-long"
    forever = "trap 'exit 0' TERM; sleep 600 & wait"
    file.write_text(json.dumps(shell_request(bucket, forever, TrainingJobName=long)))
    aws("create-training-job", "--cli-input-json", file.as_uri())
    assert aws("stop-training-job", "--training-job-name", long) is None
    await_end(long)
    assert aws("describe-training-job", "--training-job-name", long)["SecondaryStatus"] == "Stopped"
    arn = created["TrainingJobArn"]
    aws("add-tags", "--resource-arn", arn, "--tags", "Key=by,Value=cli")
    assert aws("list-tags", "--resource-arn", arn)["Tags"] == [{"Key": "by", "Value": "cli"}]
    aws("delete-training-job", "--training-job-name", name)
    assert aws("list-training-jobs", "--name-contains", name)["TrainingJobSummaries"][0][
        "TrainingJobName"
    ] == (long)


# --- SDKs --------------------------------------------------------------------------------------


def said(python: Path, emulator: RunningEmulator, script: str, *words: str) -> dict[str, str]:
    """What the script prints, by the first word of the line; its whole output under ""."""
    done = subprocess.run(
        [python, SCRIPTS / script, *words],
        capture_output=True,
        text=True,
        env=emulator.environment,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return {**{word: rest for word, _, rest in lines}, "": done.stdout + done.stderr}


@pytest.mark.sdk
@pytest.mark.timeout(1200)
def test_resources_of_sagemaker_core(sdk_v3: Path, emulator: RunningEmulator, bucket: str) -> None:
    prefix = f"core-{uuid.uuid4().hex[:8]}"
    lines = said(sdk_v3, emulator, "resources_v3.py", bucket, IMAGE, prefix)
    assert lines["DONE"] == "Completed"
    assert lines["STOPPED"] == "Stopped"
    assert json.loads(lines["NAMES"]) == [f"{prefix}-done", f"{prefix}-long"]
    assert json.loads(lines["TAGS"]) == {"made-by": "core"}
    assert lines["GONE"] == "Requested resource not found."


@pytest.mark.sdk
@pytest.mark.timeout(1200)
def test_attach_stop_and_logs_of_sdk_v2(
    sdk_v2: Path, emulator: RunningEmulator, bucket: str
) -> None:
    name = f"v2-{uuid.uuid4().hex[:8]}"
    lines = said(sdk_v2, emulator, "attach_v2.py", bucket, IMAGE, name)
    assert lines["ATTACHED"] == "Stopped"
    assert lines["TAGS"] == str([{"Key": "made-by", "Value": "v2"}])
    assert "waiting" in lines[""]
    assert "saved" in lines[""]
    assert name in lines["FOUND"]
