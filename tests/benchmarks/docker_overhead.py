"""What the emulator costs a job in containers, beside the same containers started by hand.

    python tests/benchmarks/docker_overhead.py [--runs 3] [--local-mode PYTHON]

For a two-instance torchrun job: seconds from the submission to the first line of the user's
script, to the end of the job (for the emulator: until Describe says Completed, upload included),
and milliseconds a DDP step takes; by hand with the docker command, through the emulator, through
it again on the warm pool that a job like it has left, in local
mode of the SageMaker Python SDK v2 (PYTHON has `sagemaker[local]`, and a docker-compose is on
PATH), and with the launcher alone on this machine, outside of containers. The runs alternate, so
that a busy machine is busy for all.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchrun_job import (
    HOSTS,
    HYPERPARAMETERS,
    Clients,
    archive,
    emulator,
    prepare,
    run_job,
)

_TRIES = 3
IMAGE = "sagemaker-emulator/pytorch-training:cpu"
SCRIPT = """
import time
print(f"FIRST {time.time()}", flush=True)
import torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(256, 256))
data = torch.randn(32, 256)
for step in range(220):
    if step == 20:
        began = time.perf_counter()
    model(data).sum().backward()
print(f"STEP {(time.perf_counter() - began) / 200}", flush=True)
dist.barrier()
dist.destroy_process_group()
"""
LOCAL_MODE = """
import sys, time
from sagemaker.estimator import Estimator
from sagemaker.local import LocalSession
image, code, output, values = sys.argv[1:]
import json
estimator = Estimator(
    image, role="arn:aws:iam::123456789012:role/r", instance_count=2, instance_type="local",
    output_path="file://" + output, hyperparameters=json.loads(values),
    sagemaker_session=LocalSession(),
)
print(f"STARTED {time.time()}", flush=True)
estimator.fit({"code": "file://" + code})
print(f"ENDED {time.time()}", flush=True)
"""


@dataclass(frozen=True)
class Times:
    """Seconds of one run."""

    first_line: float
    """From the start to the first line of the first rank that speaks."""
    end: float
    """From the start to the end of the job."""
    step: float
    """A step of the slowest rank."""


def times(output: str, started: float, ended: float) -> Times:
    def said(word: str) -> list[float]:
        found = [float(value) for value in re.findall(rf"\b{word} ([0-9.e-]+)", output)]
        if len(found) != len(HOSTS):
            raise SystemExit(f"The job did not run:\n{output[-6000:]}")
        return found

    return Times(min(said("FIRST")) - started, ended - started, max(said("STEP")))


def by_hand() -> Times:
    """The commands a user would type, the instances side by side."""
    network = f"by-hand-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        for host in HOSTS:
            prepare(Path(folder) / host, host, "eth0", SCRIPT)
        started = time.time()
        subprocess.run(["docker", "network", "create", network], check=True, capture_output=True)
        running = [
            subprocess.Popen(
                [
                    *("docker", "run", "--rm", "--network", network, "--network-alias", host),
                    *("--hostname", host, "--volume", f"{folder}/{host}/ml:/opt/ml"),
                    *("--env", "TRAINING_JOB_NAME=by-hand", "--env", "AWS_REGION=us-east-1"),
                    *(IMAGE, "train"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for host in HOSTS
        ]
        output = "".join(process.communicate(timeout=300)[0] for process in running)
        ended = time.time()
        subprocess.run(["docker", "network", "rm", network], check=True, capture_output=True)
    return times(output, started, ended)


def through_emulator(client: Clients, **resources: int) -> Times:
    job = run_job(client, IMAGE, **resources)
    return times("\n".join(job.lines), job.started, job.ended)


def local_mode(python: Path) -> Times:
    """Compose ends all containers with the first that exits: its peer may be caught at its end."""
    for _ in range(_TRIES):
        if found := _local_mode(python):
            return found
        print("local mode failed", flush=True)
    raise SystemExit(f"Local mode failed {_TRIES} times.")


def _local_mode(python: Path) -> Times | None:
    with tempfile.TemporaryDirectory() as folder:
        code, output = Path(folder) / "code", Path(folder) / "output"
        for directory in (code, output):
            directory.mkdir()
        (code / "sourcedir.tar.gz").write_bytes(archive(SCRIPT))
        keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "none")
        done = subprocess.run(
            [python, "-c", LOCAL_MODE, IMAGE, code, output, json.dumps(HYPERPARAMETERS)],
            env={**os.environ, **keys, "AWS_REGION": "us-east-1"}
            | {"AWS_DEFAULT_REGION": "us-east-1", "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
    moments = [re.search(rf"^{word} ([0-9.]+)", done.stdout, re.M) for word in ("STARTED", "ENDED")]
    if not all(moments):
        sys.stderr.write(done.stdout[-3000:])
        return None
    started, ended = (float(moment[1]) for moment in moments if moment)
    return times(done.stdout, started, ended)


def outside() -> Times:
    """torchrun alone, both nodes on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(SCRIPT)
        started = time.time()
        running = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                    *("--node-rank", str(rank), "--nproc-per-node", "1"),
                    *("--master-addr", "127.0.0.1", "--master-port", "7777", str(script)),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(len(HOSTS))
        ]
        output = "".join(process.communicate(timeout=300)[0] for process in running)
    return times(output, started, time.time())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--local-mode", type=Path, help="interpreter with sagemaker[local]")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    with emulator("docker", SCRIPT) as client:
        # The first job of a pool pays for it; the others have it. Jobs without one must not
        # match it.
        pooled = {"KeepAlivePeriodInSeconds": 600, "VolumeSizeInGB": 2}
        through_emulator(client, **pooled)
        ways: dict[str, Callable[[], Times]] = {
            "by hand": by_hand,
            "emulator": lambda: through_emulator(client),
            "warm pool": lambda: through_emulator(client, **pooled),
            "outside": outside,
        }
        if given.local_mode:
            ways["local mode"] = lambda: local_mode(given.local_mode)
        runs: dict[str, list[Times]] = {name: [] for name in ways}
        for _ in range(given.runs):
            for name, way in ways.items():
                runs[name].append(way())
                print(name, runs[name][-1], flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; medians:")
    show("first line", "s", runs, lambda one: one.first_line, "by hand")
    show("end", "s", runs, lambda one: one.end, "by hand")
    show("DDP step", "ms", runs, lambda one: 1000 * one.step, "outside")


def show(
    label: str,
    unit: str,
    runs: dict[str, list[Times]],
    pick: Callable[[Times], float],
    base: str,
) -> None:
    medians = {name: statistics.median(map(pick, found)) for name, found in runs.items()}
    for name, value in medians.items():
        print(f"{label:>11}: {name:<10} {value:7.2f} {unit}, {value / medians[base]:.2f} of {base}")


if __name__ == "__main__":
    main()
