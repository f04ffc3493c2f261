"""Processing jobs as boto3 users write them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from e2e_jobs import IMAGE, ROLE, TERMINAL

GROUP = "/aws/sagemaker/ProcessingJobs"


def source(bucket: str, name: str, prefix: str, path: str, **members: Any) -> dict[str, Any]:
    """An input below /opt/ml/processing."""
    asked = {
        "S3Uri": f"s3://{bucket}/{prefix}",
        "LocalPath": f"/opt/ml/processing/{path}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    return {"InputName": name, "S3Input": {**asked, **members}}


def result(bucket: str, prefix: str, path: str, mode: str = "EndOfJob") -> dict[str, Any]:
    """An output below /opt/ml/processing, named as its prefix is."""
    return {
        "OutputName": prefix,
        "S3Output": {
            "S3Uri": f"s3://{bucket}/{prefix}",
            "LocalPath": f"/opt/ml/processing/{path}",
            "S3UploadMode": mode,
        },
    }


def request(command: str, *results: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A job that runs one bash command, with these outputs."""
    return {
        "ProcessingJobName": f"e2e-{uuid.uuid4().hex[:12]}",
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["bash", "-c", command]},
        "ProcessingResources": cluster(1),
        "ProcessingOutputConfig": {"Outputs": list(results)},
        **members,
    }


def cluster(count: int) -> dict[str, Any]:
    """ProcessingResources of so many instances."""
    machine = {"InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 10}
    return {"ClusterConfig": {**machine, "InstanceCount": count}}


def wait_for(
    sagemaker: Any, name: str, wanted: Callable[[Mapping[str, Any]], bool], timeout: float = 180
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        job: dict[str, Any] = sagemaker.describe_processing_job(ProcessingJobName=name)
        if wanted(job):
            return job
        assert time.monotonic() < deadline, f"{name} is still {job['ProcessingJobStatus']}"
        time.sleep(0.1)


def wait(sagemaker: Any, name: str) -> dict[str, Any]:
    """Describe until the job has ended."""
    return wait_for(sagemaker, name, lambda job: job["ProcessingJobStatus"] in TERMINAL)


def run(sagemaker: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    sagemaker.create_processing_job(**body)
    return wait(sagemaker, body["ProcessingJobName"])


def log_lines(logs: Any, job: str, host: str = "algo-1") -> list[str]:
    """The lines of one instance's stream, as far as there is one."""
    try:
        found = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{job}/{host}-")
    except logs.exceptions.ResourceNotFoundException:
        return []
    lines: list[str] = []
    for stream in found["logStreams"]:
        where = {"logGroupName": GROUP, "logStreamName": stream["logStreamName"]}
        page = logs.get_log_events(**where, startFromHead=True)
        while page["events"]:
            lines += [event["message"] for event in page["events"]]
            page = logs.get_log_events(
                **where, nextToken=page["nextForwardToken"], startFromHead=True
            )
    return lines


def wait_for_line(emulator: Any, job: str, line: str, host: str = "algo-1") -> None:
    deadline = time.monotonic() + 120
    while line not in log_lines(emulator.client("logs"), job, host):
        assert time.monotonic() < deadline, f"{job} has not said {line}"
        time.sleep(0.05)


def objects(s3: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    """What is below a prefix, by the rest of the key."""
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    return {
        each["Key"].removeprefix(f"{prefix}/"): s3.get_object(Bucket=bucket, Key=each["Key"])[
            "Body"
        ].read()
        for each in listed
    }
