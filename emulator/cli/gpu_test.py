"""doctor --gpu-test: a two-rank all-reduce in each NCCL preset, beside plain processes.

The ranks are instances of ordinary training jobs of an emulator of the test's own, so that
what is measured is what a user's job gets: leases, devices, preset and network included.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import botocore.session
import typer
from botocore.config import Config
from rich.text import Text

from emulator.cli.follow import JobReader, Line
from emulator.cli.messages import ExitCode, fail, note, out
from emulator.cli.remote import connect
from emulator.cli.up import configure_logging, serving
from emulator.placement.device import Gpu
from emulator.placement.gpus import find_gpus
from emulator.placement.nccl import PRESET_VARIABLE
from emulator.settings import Settings

RANK_SCRIPT = Path(__file__).with_name("gpu_test_rank.py")
PLAIN = "plain processes"
REHEARSAL = "gloo"
"""Stands for the presets where the test runs without a GPU."""
SECONDS = 300.0
"""What two plain processes may take; a job ends itself after as long."""

_BUCKET = "gpu-test"
_RESULT = re.compile(r"^gpu-test (\{.*\})$")
_TRANSPORT = re.compile(r"^NCCL: algo-1 and algo-2 talk through (.*)\.$")


@dataclass(frozen=True)
class Trial:
    """One all-reduce to be measured."""

    name: str
    """A preset, or `gloo`."""
    backend: str
    mib: int
    """The tensor's size."""
    instance_type: str


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    name: str
    gigabytes_per_second: float | None = None
    """The tensor's bytes by the time of one all-reduce; None when it failed."""
    transport: str = ""
    """What NCCL said that the ranks talk through."""
    problem: str = ""


def trials(gpus: Sequence[Gpu]) -> tuple[Trial, ...]:
    """What can be measured with these GPUs; without any, gloo on the CPU rehearses it."""
    if not gpus:
        return (Trial(REHEARSAL, "gloo", 8, "ml.m5.large"),)
    presets = ("network", "shm", "fast") if _two_apart(gpus) else ("shared-gpu",)
    return tuple(Trial(preset, "nccl", 100, "ml.local.1gpu") for preset in presets)


def _two_apart(gpus: Sequence[Gpu]) -> bool:
    """Whether two ranks get two GPUs: on one, or on slices, NCCL has them talk through sockets."""
    return len(gpus) > 1 and not any(gpu.is_slice for gpu in gpus)


def measure_all(settings: Settings, image: str, rehearse: bool) -> None:
    """Measure and show; exit code 1 where there is no GPU or an all-reduce failed."""
    gpus = find_gpus().gpus
    if not gpus and not rehearse:
        fail(
            "there is no GPU here to test.",
            "Where NVIDIA's driver works, nvidia-smi lists GPUs; --rehearse uses the CPU.",
        )
    configure_logging(level=logging.WARNING)
    outcomes = measure(settings, gpus, image, note)
    plain = next((one.gigabytes_per_second for one in outcomes if one.name == PLAIN), None)
    for outcome in outcomes:
        _show_outcome(outcome, plain)
    if any(outcome.problem for outcome in outcomes):
        raise typer.Exit(ExitCode.FAILED)


def _show_outcome(outcome: Outcome, plain: float | None) -> None:
    speed = outcome.gigabytes_per_second
    if speed is None:
        out.print(Text.assemble(("  failed", "bold red"), f"  {outcome.name}: {outcome.problem}"))
        return
    ratio = f", {speed / plain:.2f} of plain processes" if plain and outcome.name != PLAIN else ""
    through = f" through {outcome.transport}" if outcome.transport else ""
    out.print(
        Text.assemble(
            ("      ok", "green"), f"  {outcome.name:<15} {speed:.2f} GB/s{ratio}{through}"
        )
    )


def measure(
    settings: Settings, gpus: Sequence[Gpu], image: str, say: Callable[[str], None]
) -> list[Outcome]:
    """All trials through the runtime of the settings, then the same in plain processes."""
    planned = trials(gpus)
    with tempfile.TemporaryDirectory(prefix="sagemaker-emulator-gpu-test-") as folder:
        own = replace(
            settings,
            port=0,
            state_dir=Path(folder) / "state",
            gpu_inventory=None,
            gpu_policy="shared" if len(gpus) == 1 else "scale",
        )
        with serving(own) as endpoint:
            jobs = _Jobs(own, endpoint.url, image)
            outcomes = []
            for trial in planned:
                say(f"{trial.name}: two instances reduce {trial.mib} MiB through {trial.backend}")
                outcomes.append(jobs.run(trial))
    # NCCL refuses two ranks on one GPU of one host: there is nothing to compare with.
    if not gpus or _two_apart(gpus):
        say("the same in two plain processes")
        outcomes.append(run_plain(settings.python, planned[0], [gpu.uuid for gpu in gpus[:2]]))
    return outcomes


def read_outcome(trial: Trial, lines: Sequence[str], problem: str) -> Outcome:
    """What the lines of a job, or of two processes, say. Pure."""
    results = [json.loads(match[1]) for line in lines if (match := _RESULT.match(line))]
    transports = [match[1] for line in lines if (match := _TRANSPORT.match(line))]
    if problem or not results:
        told = problem or "no rank told a result"
        return Outcome(trial.name, transport="".join(transports[:1]), problem=told)
    speed = float(results[0]["gigabytes_per_second"])
    return Outcome(trial.name, speed, "".join(transports[:1]))


def failure_of(described: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Why a job failed, with its last words; "" for one that completed. Pure.

    Of a script that ends with an error the service itself tells the exit code and no more.
    """
    status = str(described["TrainingJobStatus"])
    if status == "Completed":
        return ""
    reason = str(described.get("FailureReason", status))
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"{reason} ({last})" if last else reason


def run_plain(python: Path, trial: Trial, gpus: Sequence[str]) -> Outcome:
    """Two processes of this machine with nothing of the emulator around them."""
    named = Trial(PLAIN, trial.backend, trial.mib, "")
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "GPU_TEST_BACKEND": trial.backend,
        "GPU_TEST_MIB": str(trial.mib),
        **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}),
    }
    ranks = [
        subprocess.Popen(
            [str(python), str(RANK_SCRIPT)],
            env={**common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        texts = [rank.communicate(timeout=SECONDS)[0] for rank in ranks]
    except subprocess.TimeoutExpired:
        return Outcome(named.name, problem=f"no end within {SECONDS:g} s")
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    lines = [line for text in texts for line in text.splitlines()]
    failed = any(rank.returncode for rank in ranks)
    return read_outcome(named, lines, (lines or ["it failed"])[-1] if failed else "")


class _Jobs:
    """Training jobs that run the rank's script, at one emulator."""

    def __init__(self, settings: Settings, url: str, image: str):
        self._settings = settings
        self._image = image
        self._remote = connect(settings, url)
        s3 = botocore.session.Session().create_client(
            "s3",
            endpoint_url=url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key.get_secret_value(),
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": settings.region}}
        s3.create_bucket(Bucket=_BUCKET, **({} if settings.region == "us-east-1" else elsewhere))
        s3.put_object(Bucket=_BUCKET, Key=f"code/{RANK_SCRIPT.name}", Body=RANK_SCRIPT.read_bytes())

    def run(self, trial: Trial) -> Outcome:
        name = f"gpu-test-{trial.name}-{time.strftime('%H%M%S')}"
        self._remote.sagemaker.call("CreateTrainingJob", **self._request(name, trial))
        lines: list[str] = []
        end: Mapping[str, Any] = {}
        for item in JobReader(self._remote, name).follow(time.sleep):
            if isinstance(item, Line):
                lines.append(item.text)
            elif isinstance(item, dict):
                end = item
        return read_outcome(trial, lines, failure_of(end, lines))

    def _request(self, name: str, trial: Trial) -> dict[str, Any]:
        code = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{_BUCKET}/code/"}
        return {
            "TrainingJobName": name,
            "RoleArn": self._settings.role_arn,
            "AlgorithmSpecification": {
                "TrainingImage": self._image,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", f"/opt/ml/input/data/code/{RANK_SCRIPT.name}"],
            },
            "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": code}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{_BUCKET}/out/"},
            "ResourceConfig": {
                "InstanceType": trial.instance_type,
                "InstanceCount": 2,
                "VolumeSizeInGB": 1,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": int(SECONDS)},
            "Environment": {
                "GPU_TEST_BACKEND": trial.backend,
                "GPU_TEST_MIB": str(trial.mib),
                **({} if trial.name == REHEARSAL else {PRESET_VARIABLE: trial.name}),
            },
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
