"""A training job as one function call of a test."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from emulator.cli.kinds import TRAINING
from emulator.cli.remote import TERMINAL
from emulator.data.outputs.unpack import unpack

POLL_SECONDS = 0.2
TAIL_LINES = 40
IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch-training:2.7-cpu-py312"
_CODE = "code"
_LAUNCHER = "_launch.py"


class TrainingFailed(AssertionError):
    """The job did not complete; the text has its reason and the last lines of its log."""


@dataclass(frozen=True)
class Clients:
    """boto3 clients of one emulator, and where a test's objects go."""

    sagemaker: Any
    logs: Any
    s3: Any
    bucket: str
    region: str
    role: str


@dataclass(frozen=True)
class Training:
    """What to run, as the arguments of the fixture `sagemaker_train` say."""

    source_dir: Path
    entry_point: str
    instances: int = 1
    instance_type: str = "ml.m5.xlarge"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str | Path] = field(default_factory=dict)
    """Channels: a directory or file of this machine, or an S3 URI."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Metric names and the regular expressions that find their values in the output."""
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    torchrun: bool = False
    """Start the script with torchrun on all instances."""
    toolkit: bool = True
    """Start it with AWS's own training toolkit, which the job's interpreter has."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """More members of CreateTrainingJob, which replace those made here."""

    def __post_init__(self) -> None:
        """Raises FileNotFoundError where there is no such script."""
        script = self.source_dir / self.entry_point
        if not script.is_file():
            raise FileNotFoundError(f"There is no entry point {script}")


@dataclass(frozen=True)
class Result:
    """A training job that has ended."""

    name: str
    description: Mapping[str, Any]
    """The answer of DescribeTrainingJob."""
    clients: Clients
    directory: Path
    """Where `model` and `output` are unpacked."""

    @property
    def status(self) -> str:
        """`Completed`, `Failed` or `Stopped`."""
        return str(self.description["TrainingJobStatus"])

    @property
    def failure_reason(self) -> str:
        """FailureReason, or ""."""
        return str(self.description.get("FailureReason", ""))

    @cached_property
    def instance_logs(self) -> Mapping[str, str]:
        """What each instance wrote, by its host name (`algo-1`)."""
        return read_logs(self.clients.logs, self.name)

    @property
    def logs(self) -> str:
        """What all instances wrote, one after the other."""
        return "\n".join(self.instance_logs.values())

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric that the call defined."""
        found = self.description.get("FinalMetricDataList", ())
        return {metric["MetricName"]: metric["Value"] for metric in found}

    @cached_property
    def model(self) -> Path:
        """A directory with the unpacked model.tar.gz. Raises AssertionError where there is none."""
        return self._unpacked("model.tar.gz", "model")

    @cached_property
    def output(self) -> Path:
        """A directory with the unpacked output.tar.gz. Raises AssertionError if there is none."""
        return self._unpacked("output.tar.gz", "output")

    def _unpacked(self, archive: str, name: str) -> Path:
        prefix = self.description["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://")
        bucket, _, path = prefix.partition("/")
        key = "/".join(filter(None, (path.strip("/"), self.name, "output", archive)))
        try:
            body = self.clients.s3.get_object(Bucket=bucket, Key=key)["Body"]
        except self.clients.s3.exceptions.NoSuchKey:
            raise AssertionError(f"{self.name} left no {archive} in s3://{bucket}") from None
        directory = self.directory / self.name / name
        directory.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(body.read())) as tar:
            unpack(tar, directory)
        return directory


def train(
    clients: Clients, what: Training, directory: Path, timeout: float, check: bool = True
) -> Result:
    """Run a job to its end.

    Raises TrainingFailed if it does not complete, unless `check` is false, and if it has not
    ended after `timeout` seconds; it is stopped then.
    """
    __tracebackhide__ = True
    name = f"test-{uuid.uuid4().hex[:12]}"
    clients.sagemaker.create_training_job(**_request(clients, name, what))
    deadline = time.monotonic() + timeout
    while True:
        said = clients.sagemaker.describe_training_job(TrainingJobName=name)
        if said["TrainingJobStatus"] in TERMINAL:
            break
        if time.monotonic() > deadline:
            clients.sagemaker.stop_training_job(TrainingJobName=name)
            state = f"is {said['TrainingJobStatus']} ({said['SecondaryStatus']})"
            raise TrainingFailed(_told(clients, name, f"{state} after {timeout:g} seconds"))
        time.sleep(POLL_SECONDS)
    result = Result(name, said, clients, directory)
    if check and result.status != "Completed":
        raise TrainingFailed(_told(clients, name, f"{result.status}: {result.failure_reason}"))
    return result


def read_logs(logs: Any, job: str) -> dict[str, str]:
    """What each instance of a job wrote, by host name and in the order of their numbers."""
    found: dict[str, str] = {}
    try:
        pages = logs.get_paginator("describe_log_streams").paginate(
            logGroupName=TRAINING.log_group, logStreamNamePrefix=f"{job}/"
        )
        streams = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    except logs.exceptions.ResourceNotFoundException:
        return {}
    for stream in streams:
        host = stream.removeprefix(f"{job}/").rpartition("-")[0]
        found[host] = found.get(host, "") + _read_stream(logs, stream)
    return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def _read_stream(logs: Any, stream: str) -> str:
    where = {"logGroupName": TRAINING.log_group, "logStreamName": stream, "startFromHead": True}
    page = logs.get_log_events(**where)
    lines = []
    while page["events"]:
        lines += [f"{event['message']}\n" for event in page["events"]]
        page = logs.get_log_events(**where, nextToken=page["nextForwardToken"])
    return "".join(lines)


def _told(clients: Clients, name: str, what: str) -> str:
    parts = [f"Training job {name} {what}"]
    for host, text in read_logs(clients.logs, name).items():
        # The toolkit writes out its whole environment; it is seldom why a job fails.
        lines = [line for line in text.splitlines() if not line.startswith("SM_")]
        parts += [f"----- last lines of {host} -----", *lines[-TAIL_LINES:]]
    return "\n".join(parts)


def _request(clients: Clients, name: str, what: Training) -> dict[str, Any]:
    channels = [_channel(clients, name, *each) for each in what.inputs.items()]
    algorithm: dict[str, Any] = {
        "TrainingImage": what.image or IMAGE.format(region=clients.region),
        "TrainingInputMode": "File",
    }
    if what.metrics:
        algorithm["MetricDefinitions"] = [
            {"Name": metric, "Regex": regex} for metric, regex in what.metrics.items()
        ]
    hyperparameters = dict(what.hyperparameters)
    if what.toolkit:
        hyperparameters |= _upload_archive(clients, name, what)
    else:
        channels.append(_upload_code(clients, name, what))
        algorithm |= _launcher(what)
    return {
        "TrainingJobName": name,
        "RoleArn": clients.role,
        "AlgorithmSpecification": algorithm,
        # SDK v2 writes every value as JSON, and the toolkit reads it so.
        "HyperParameters": {key: json.dumps(value) for key, value in hyperparameters.items()},
        "Environment": dict(what.environment),
        **({"InputDataConfig": channels} if channels else {}),
        "OutputDataConfig": {"S3OutputPath": f"s3://{clients.bucket}/output"},
        "ResourceConfig": {
            "InstanceType": what.instance_type,
            "InstanceCount": what.instances,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
        **what.request,
    }


def _upload_archive(clients: Clients, name: str, what: Training) -> dict[str, Any]:
    """The hyperparameters that tell the toolkit what to run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(what.source_dir, ".")
    key = f"{name}/source/sourcedir.tar.gz"
    clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=archive.getvalue())
    return {
        "sagemaker_program": what.entry_point,
        "sagemaker_submit_directory": f"s3://{clients.bucket}/{key}",
        "sagemaker_region": clients.region,
        "sagemaker_container_log_level": 20,
        **({"sagemaker_torch_distributed_enabled": True} if what.torchrun else {}),
    }


def _upload_code(clients: Clients, name: str, what: Training) -> dict[str, Any]:
    """The channel with the script and what starts it where there is no toolkit."""
    launcher = Path(__file__).with_name("launch.py").read_bytes()
    clients.s3.put_object(Bucket=clients.bucket, Key=f"{name}/code/{_LAUNCHER}", Body=launcher)
    return _channel(clients, name, _CODE, what.source_dir)


def _launcher(what: Training) -> dict[str, Sequence[str]]:
    code = f"/opt/ml/input/data/{_CODE}"
    words = [f"{code}/{_LAUNCHER}", *(("--torchrun",) if what.torchrun else ())]
    return {
        "ContainerEntrypoint": ["python3"],
        "ContainerArguments": [*words, code, what.entry_point],
    }


def _channel(clients: Clients, name: str, channel: str, source: str | Path) -> dict[str, Any]:
    """A channel of InputDataConfig; files of this machine are uploaded first."""
    uri = str(source)
    if not uri.startswith("s3://"):
        uri = f"s3://{clients.bucket}/{name}/{channel}/"
        _upload(clients, Path(source), f"{name}/{channel}")
    data = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": channel, "DataSource": {"S3DataSource": data}}


def _upload(clients: Clients, source: Path, prefix: str) -> None:
    """Upload a file, or all files below a directory. Raises FileNotFoundError."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    if not source.exists():
        raise FileNotFoundError(source)
    base = source.parent if source.is_file() else source
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            key = f"{prefix}/{file.relative_to(base).as_posix()}"
            clients.s3.upload_file(str(file), clients.bucket, key)
