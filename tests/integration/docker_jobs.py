"""Running a request's containers as the emulator would, its script baked into a channel."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.client import DockerClient

from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import inspect_engine
from emulator.drivers.images.resolution import Images
from emulator.model.plan import Exit, InstancePlan, JobPlan
from emulator.model.scope import Scope
from emulator.resources.training import training_job
from emulator.workloads.plan.job_plan import Credentials, plan_job
from emulator.workloads.plan.layout import InstanceDirs, create_instances

IMAGE = "sagemaker-emulator/pytorch-training:cpu"
CODE = "/opt/ml/input/data/code"
DEADLINE = 600.0


@dataclass(frozen=True)
class Finished:
    """What became of a job."""

    exits: list[Exit]
    output: Mapping[str, str]
    dirs: Mapping[str, InstanceDirs]
    seconds: float

    @property
    def codes(self) -> dict[str, int]:
        return {end.host: end.code for end in self.exits}


def run_job(
    runtime: DockerRuntime,
    job_dir: Path,
    script: str,
    hyperparameters: Mapping[str, str],
    *,
    until: int | None = None,
    **request: Any,
) -> Finished:
    """Run until all instances, or `until` of them, have ended, or one has failed."""
    plan, dirs = make_plan(runtime, job_dir, script, hyperparameters, **request)
    output: dict[str, bytearray] = {host: bytearray() for host in plan.hosts}
    started = time.monotonic()
    fleet = runtime.launch(plan, lambda host, chunk: output[host].extend(chunk))
    exits: list[Exit] = []
    wanted = len(plan.hosts) if until is None else until
    try:
        # Where one has failed, the others may wait for it for ever.
        while (
            len(exits) < wanted
            and not any(end.code for end in exits)
            and time.monotonic() - started < DEADLINE
        ):
            if end := fleet.next_exit(1):
                exits.append(end)
    finally:
        fleet.close()
    seconds = time.monotonic() - started
    text = {host: data.decode(errors="replace") for host, data in output.items()}
    assert len(exits) == wanted, text
    return Finished(exits, text, dirs, seconds)


def make_plan(
    runtime: DockerRuntime,
    job_dir: Path,
    script: str,
    hyperparameters: Mapping[str, str],
    *,
    files: Mapping[str, str | bytes] | None = None,
    algorithm: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    **request: Any,
) -> tuple[JobPlan, Mapping[str, InstanceDirs]]:
    """A job of two instances, unless `resources` or `request` say otherwise."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/code"}}
    spec = training_job(
        {
            "TrainingJobName": job_dir.name,
            "RoleArn": "arn:aws:iam::123456789012:role/r",
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                **(algorithm or {}),
            },
            "HyperParameters": {
                "sagemaker_program": json.dumps("train.py"),
                "sagemaker_submit_directory": json.dumps(CODE),
                **hyperparameters,
            },
            "InputDataConfig": [{"ChannelName": "code", "DataSource": source}],
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
            "ResourceConfig": {
                "InstanceType": "ml.c5.xlarge",
                "InstanceCount": 2,
                "VolumeSizeInGB": 1,
                **(resources or {}),
            },
            **request,
        },
        Scope("123456789012", "us-east-1"),
    )
    dirs = create_instances(job_dir, spec, runtime.traits)
    for instance in dirs.values():
        for name, content in {"train.py": script, **(files or {})}.items():
            data = content.encode() if isinstance(content, str) else content
            (instance.at("/opt/ml/input/data/code") / name).write_bytes(data)
    return plan_job(spec, dirs, runtime.traits, {}, Credentials("key", "secret")), dirs


class Output(dict[str, str]):
    """A sink that remembers, and can be waited on."""

    def __call__(self, host: str, chunk: bytes) -> None:
        self[host] = self.get(host, "") + chunk.decode()

    def await_text(self, text: str, host: str = "algo-1") -> None:
        deadline = time.monotonic() + 60
        while text not in self.get(host, ""):
            assert time.monotonic() < deadline, self
            time.sleep(0.02)


def runtime_on(client: DockerClient, emulator: str, memory: int | None = None) -> DockerRuntime:
    return DockerRuntime(
        client,
        inspect_engine(client),
        Images(client),
        port=4570,
        emulator=emulator,
        memory_of=lambda _: memory,
    )


def plan_of(
    tmp_path: Path, *scripts: str, image: str = IMAGE, gpus: tuple[str, ...] = ()
) -> JobPlan:
    instances = tuple(
        InstancePlan(
            host=f"algo-{number}",
            image=image,
            entrypoint=("sh", "-c"),
            arguments=(script,),
            environment={},
            mounts=(),
            scratch=tmp_path / f"algo-{number}",
            gpus=gpus,
        )
        for number, script in enumerate(scripts, start=1)
    )
    return JobPlan(tmp_path.name, f"arn:{tmp_path.name}", instances)
