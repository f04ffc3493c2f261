"""What it costs to start: commands, `up`, memory at rest, and a state directory with many jobs.

    python tests/benchmarks/startup.py [--runs 3] [--jobs 10000]

Prints the CPU seconds of client commands, the seconds from `up` to an answer, the resident
memory of an idle emulator and of its object store, and how much longer a start takes on a state
directory with many ended jobs than on an empty one. Starts alternate, so that a busy machine is
busy for both; CPU seconds (of the emulator and its store) say more on one that is.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from emulator.cli.environment import running_endpoint
from emulator.cli.reach import health
from emulator.data.objectstore.embedded import EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore
from emulator.database import Database
from emulator.model.lifecycle import Phase
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.parts import SCHEMA
from emulator.resources import KINDS
from emulator.resources.training import job_id, training_job
from emulator.settings import Settings
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MIGRATIONS as METRIC_MIGRATIONS
from emulator.telemetry.metrics.store import MetricStore, Sample, Series
from emulator.workloads.store.runs import JobStore

PROGRAM = [sys.executable, "-m", "emulator"]
GROUP = "/aws/sagemaker/TrainingJobs"
IDLE_SECONDS = 5.0


def cpu_of(*words: str) -> float:
    """CPU seconds of one run of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*PROGRAM, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def emulator(state: Path) -> Iterator[tuple[float, int, str]]:
    """A started emulator: the seconds until it answered, its process id and its URL."""
    settings = Settings(state_dir=state)
    began = time.monotonic()
    process = subprocess.Popen(
        [*PROGRAM, "up", "--port", "0", "--state-dir", str(state), "--runtime", "process"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not ((where := running_endpoint(settings)) and health(where.url)):
            if process.poll() is not None:
                raise SystemExit("The emulator did not start.")
            time.sleep(0.01)
        yield time.monotonic() - began, process.pid, where.url
    finally:
        process.terminate()
        process.wait()


def resident(pid: int) -> float:
    """Megabytes of one process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def cpu_until_now(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def store_of(pid: int) -> int:
    """The process id of an emulator's object store."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            if b"/weed\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    raise SystemExit("The emulator has no object store.")


def fill(state: Path, jobs: int) -> None:
    """As many ended jobs, each with a log stream, metrics and a model."""
    settings = Settings(state_dir=state)
    scope = Scope(settings.account, settings.region)
    database = Database(state / "emulator.sqlite3", SCHEMA)
    measured = Database(state / "metrics.sqlite3", METRIC_MIGRATIONS)
    records, metrics, logs = (
        JobStore(database, KINDS),
        MetricStore(measured),
        LogStore(state / "logs"),
    )
    for number in range(jobs):
        name, at = f"job-{number:06}", time.time() - jobs + number
        records.create(spec(name, scope, settings), at)
        records.change(
            job_id(scope, name),
            lambda life, at=at: life.finish(Phase.FAILED, "Training job failed", at, "no"),  # type: ignore[misc]
        )
        writer = logs.writer(scope, GROUP, f"{name}/algo-1-{int(at)}")
        writer.write_all([f"line {line}" for line in range(20)], int(at * 1000))
        writer.close()
        series = Series("/aws/sagemaker/TrainingJobs", "loss", (("Host", f"{name}/algo-1"),))
        metrics.put(scope, [(series, Sample(at, 1, 0.5, 0.5, 0.5))])
    database.close()
    measured.close()
    keys = (settings.access_key, settings.secret_key.get_secret_value())
    with EmbeddedStore(state, *keys) as store, ThreadPoolExecutor(8) as threads:
        objects = ObjectStore(store.endpoint, *keys)
        objects.ensure_bucket("models")
        model = os.urandom(2000)
        list(
            threads.map(
                lambda number: objects.upload("models", f"{number}/model", io.BytesIO(model)),
                range(jobs),
            )
        )


def spec(name: str, scope: Scope, settings: Settings) -> WorkloadSpec:
    request = {
        "TrainingJobName": name,
        "RoleArn": settings.role_arn,
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://models/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return training_job(request, scope)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        full.mkdir()
        fill(full, options.jobs)
        starts: dict[Path, list[float]] = {empty: [], full: []}
        spent: dict[Path, list[float]] = {empty: [], full: []}
        for run in range(options.runs):
            for state in (empty, full) if run % 2 == 0 else (full, empty):
                taken = starts[state]
                with emulator(state) as (seconds, pid, url):
                    taken.append(seconds)
                    spent[state].append(cpu_until_now(pid) + cpu_until_now(store_of(pid)))
                    if state is full and run == 0:
                        for words in (
                            ("--version",),
                            ("env", "--state-dir", str(state)),
                            ("jobs", "--limit", "5", "--endpoint-url", url),
                            ("describe", "job-000001", "--endpoint-url", url),
                            ("logs", "job-000001", "--endpoint-url", url),
                        ):
                            cpu = statistics.median(cpu_of(*words) for _ in range(options.runs))
                            print(f"CPU of {words[0]}: {cpu:.2f} s")
                    if run == 0:
                        time.sleep(IDLE_SECONDS)
                        print(
                            f"memory, {state.name} state: emulator {resident(pid):.0f} MB, "
                            f"store {resident(store_of(pid)):.0f} MB"
                        )
        for what, found in (("seconds", starts), ("CPU seconds", spent)):
            one, many = (statistics.median(found[state]) for state in (empty, full))
            print(f"{what} to an answer: {one:.2f}, with {options.jobs} jobs {many:.2f}", end="")
            print(f" ({many / one:.2f} times)")


if __name__ == "__main__":
    main()
