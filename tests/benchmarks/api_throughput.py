"""Describe, List and Search of finished training jobs: beside moto's server, and with more jobs.

Run it with `make bench-api` (or `python tests/benchmarks/api_throughput.py JOBS…`). Servers that
are compared run at the same time and are asked in turns by the same clients over kept
connections, so that what else the machine does befalls all of them. The requests are signed once
and sent as they are: what is measured is the server. Describe asks for all jobs in turn, so that
nothing can be remembered of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from emulator.database import Database
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.scope import Scope
from emulator.parts import SCHEMA
from emulator.resources import KINDS
from emulator.resources.training import job_id, training_job
from emulator.workloads.store.runs import JobStore

ROOT = Path(__file__).parents[2]
BODY = json.loads((ROOT / "tests/data/requests/v2/torch_distributed.json").read_text())
SCOPE = Scope("123456789012", "us-east-1")
CREDENTIAL = "AWS4-HMAC-SHA256 Credential=emulator/20260101/us-east-1/sagemaker/aws4_request"
CLIENTS = 4
Request = Callable[[int], tuple[str, dict[str, Any]]]


def describe_one(jobs: int) -> Request:
    return lambda turn: ("DescribeTrainingJob", {"TrainingJobName": f"job-{turn * 7919 % jobs}"})


def list_newest(turn: int) -> tuple[str, dict[str, Any]]:
    return "ListTrainingJobs", {"MaxResults": 10}


def list_hundred(turn: int) -> tuple[str, dict[str, Any]]:
    return "ListTrainingJobs", {"MaxResults": 100, "SortBy": "Name", "SortOrder": "Ascending"}


def list_filtered(turn: int) -> tuple[str, dict[str, Any]]:
    return "ListTrainingJobs", {"NameContains": "job-1", "SortBy": "CreationTime"}


def list_modified(turn: int) -> tuple[str, dict[str, Any]]:
    return "ListTrainingJobs", {"LastModifiedTimeAfter": 1_900_000_000}


def search_names(turn: int) -> tuple[str, dict[str, Any]]:
    name = {"Name": "TrainingJobName", "Operator": "Contains", "Value": "b-99"}
    return "Search", {"Resource": "TrainingJob", "SearchExpression": {"Filters": [name]}}


def search_hyperparameters(turn: int) -> tuple[str, dict[str, Any]]:
    many = {"Name": "HyperParameters.epochs", "Operator": "GreaterThan", "Value": "3"}
    return "Search", {"Resource": "TrainingJob", "SearchExpression": {"Filters": [many]}}


def lists(jobs: int) -> dict[str, Request]:
    """What both servers can be asked when they hold so many jobs."""
    return {
        "Describe": describe_one(jobs),
        "List, 10 newest": list_newest,
        "List, 100 by name": list_hundred,
        "List, NameContains": list_filtered,
    }


SEARCHES: dict[str, Request] = {
    "List, modified since": list_modified,
    "Search, a name": search_names,
    "Search, hyperparameter": search_hyperparameters,
}
"""What moto's server does not do, or not by all of it."""


def ask(line: http.client.HTTPConnection, operation: str, body: dict[str, Any]) -> bytes:
    headers = {
        "X-Amz-Target": f"SageMaker.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"{CREDENTIAL}, SignedHeaders=host, Signature=0",
    }
    line.request("POST", "/", json.dumps(body), headers)
    answer = line.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return content


def speed(asked: Server, request: Request, seconds: float) -> Speed:
    """The speed with which CLIENTS are answered that ask at once."""
    used = asked.cpu_seconds()
    counts = [0] * CLIENTS
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", asked.port)
        turn = number
        while time.monotonic() < end:
            ask(line, *request(turn))
            turn += CLIENTS
            counts[number] += 1
        line.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Speed(sum(counts) / seconds, 1000 * (asked.cpu_seconds() - used) / sum(counts))


def median(speeds: Sequence[Speed]) -> Speed:
    return Speed(
        statistics.median(one.rate for one in speeds),
        statistics.median(one.cost for one in speeds),
    )


@dataclass(frozen=True)
class Server:
    """One that runs."""

    port: int
    process: int

    def cpu_seconds(self) -> float:
        """What its process has used of the processors so far."""
        return _cpu_seconds(self.process)

    def cpu_seconds_with_front(self) -> float:
        """The same with its child process that serves S3."""
        return self.cpu_seconds() + sum(
            _cpu_seconds(child)
            for children in Path(f"/proc/{self.process}/task").glob("*/children")
            for child in map(int, children.read_text().split())
            if b"aws.front" in Path(f"/proc/{child}/cmdline").read_bytes()
        )


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Speed:
    """How one server answered one kind of request."""

    rate: float
    """Requests a second of all clients together."""
    cost: float
    """Milliseconds of processor time that a request takes the server."""


@contextmanager
def server(command: list[str], path: str) -> Iterator[Server]:
    """A server on a port of its own; {port} in the command stands for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [word.format(port=port) for word in command], stdout=log, stderr=log
        )
        try:
            _wait_for(port, path, process)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, path: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            line.request("GET", path)
            line.getresponse().read()
            return
        except OSError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        finally:
            line.close()
    raise AssertionError("the server does not answer")


def fill_emulator(state: Path, jobs: int) -> None:
    """Finished jobs, put into the database as the emulator itself does."""
    database = Database(state / "emulator.sqlite3", SCHEMA)
    store = JobStore(database, KINDS)
    for number in range(jobs):
        begun = 1_700_000_000.0 + number
        spec = training_job({**BODY, "TrainingJobName": f"job-{number}"}, SCOPE)
        store.create(spec, begun)
        store.change(job_id(SCOPE, spec.name), partial(completed, begun), spec.artifacts)
    database.close()


def completed(begun: float, life: Lifecycle) -> Lifecycle:
    """All that happens to a job, once it was created."""
    return (
        life.enter(Phase.DOWNLOADING, "Downloading input data", begun + 1)
        .enter(Phase.RUNNING, "Training in progress.", begun + 2)
        .enter(Phase.UPLOADING, "Uploading generated training model", begun + 60)
        .finish(Phase.COMPLETED, "Training job completed", begun + 61)
    )


def fill_moto(port: int, jobs: int) -> None:
    line = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(jobs):
        ask(line, "CreateTrainingJob", {**BODY, "TrainingJobName": f"job-{number}"})
    line.close()


def moto_server() -> str:
    """The program moto_server of an environment of its own; made once per checkout."""
    home = Path(os.environ.get("MOTO_ENVIRONMENT", ROOT / ".envs" / "moto"))
    program = home / "bin" / "moto_server"
    if not program.exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run(
            [home / "bin" / "python", "-m", "pip", "install", "-qq", "moto[server]"], check=True
        )
    return str(program)


@contextmanager
def emulator(jobs: int) -> Iterator[Server]:
    """One that holds so many finished jobs."""
    with tempfile.TemporaryDirectory() as state:
        fill_emulator(Path(state), jobs)
        up = [sys.executable, "-m", "emulator", "up", "--port", "{port}", "--state-dir", state]
        with server([*up, "--runtime", "process"], "/_emulator/health") as running:
            yield running


def in_turns(asked: Sequence[tuple[Server, Request]], seconds: float, rounds: int) -> list[Speed]:
    """The median speed of each."""
    for one, request in asked:  # the first requests read models
        speed(one, request, 0.5)
    turns = [[speed(one, request, seconds) for one, request in asked] for _ in range(rounds)]
    return [median(column) for column in zip(*turns, strict=True)]


def compare(jobs: int, seconds: float, rounds: int) -> Iterator[tuple[str, Speed, Speed]]:
    """What is asked, and the speeds of the emulator and of moto."""
    serve = [moto_server(), "-H", "127.0.0.1", "-p", "{port}"]
    with emulator(jobs) as own, server(serve, "/moto-api/") as moto:
        fill_moto(moto.port, jobs)
        for name, request in lists(jobs).items():
            ours, theirs = in_turns([(own, request), (moto, request)], seconds, rounds)
            yield name, ours, theirs


def grow(
    sizes: Sequence[int], seconds: float, rounds: int
) -> Iterator[tuple[str, Sequence[Speed]]]:
    """What is asked, and the emulator's speed with so many jobs each."""
    with ExitStack() as stack:
        servers = {jobs: stack.enter_context(emulator(jobs)) for jobs in sizes}
        for name in {**lists(1), **SEARCHES}:
            asked = [(one, {**lists(jobs), **SEARCHES}[name]) for jobs, one in servers.items()]
            yield name, in_turns(asked, seconds, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", type=int, default=[100, 1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(f"{CLIENTS} clients, median of {chosen.rounds} rounds in turns")
    print("\nThe emulator and moto")
    print(f"{'':31}{'requests a second':^29} {'CPU ms a request':^26}")
    columns = f"{'emulator':>10} {'moto':>9} {'ratio':>7}"
    print(f"{'jobs':>7}  {'':22}{columns} {columns}")
    for jobs in chosen.jobs:
        for name, own, moto in compare(jobs, chosen.seconds, chosen.rounds):
            rates = f"{own.rate:10.0f} {moto.rate:9.0f} {own.rate / moto.rate:6.1f}x"
            costs = f"{own.cost:10.2f} {moto.cost:9.2f} {moto.cost / own.cost:6.1f}x"
            print(f"{jobs:7}  {name:22}{rates} {costs}", flush=True)
    sizes = sorted(chosen.jobs)
    print("\nThe emulator with more and more jobs: CPU ms a request")
    print(f"{'jobs':24}{''.join(f'{jobs:10}' for jobs in sizes)}   most/fewest")
    for name, speeds in grow(sizes, chosen.seconds, chosen.rounds):
        costs = "".join(f"{one.cost:10.2f}" for one in speeds)
        print(f"{name:24}{costs} {speeds[-1].cost / speeds[0].cost:9.2f}x", flush=True)


if __name__ == "__main__":
    main()
