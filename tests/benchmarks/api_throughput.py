"""Describe and List of finished training jobs, against moto's server, side by side.

Run it with `make bench-api` (or `python tests/benchmarks/api_throughput.py JOBS`). Both servers
hold the same jobs, and are asked in turns by the same clients over kept connections, so that
what else the machine does befalls both. The requests are signed once and sent as they are:
what is measured is the server.
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
from pathlib import Path
from typing import Any

from emulator.database import Database
from emulator.jobs.store import MIGRATIONS, JobStore
from emulator.model.job import JobSpec
from emulator.model.lifecycle import Secondary
from emulator.model.scope import Scope

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
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
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
    database = Database(state / "emulator.sqlite3", MIGRATIONS)
    store = JobStore(database)
    for number in range(jobs):
        begun = 1_700_000_000.0 + number
        spec = JobSpec.from_request({**BODY, "TrainingJobName": f"job-{number}"}, SCOPE)
        store.create(spec, begun)
        store.change(
            SCOPE,
            spec.name,
            lambda life, begun=begun: (
                life.enter(Secondary.DOWNLOADING, "Downloading input data", begun + 1)
                .enter(Secondary.TRAINING, "Training in progress.", begun + 2)
                .enter(Secondary.UPLOADING, "Uploading generated training model", begun + 60)
                .finish(Secondary.COMPLETED, "Training job completed", begun + 61)
            ),
            spec.model_artifacts,
        )
    database.close()


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


def measure(jobs: int, seconds: float, rounds: int) -> Iterator[tuple[str, Speed, Speed]]:
    """What is asked, and the medians of the emulator's and moto's speeds."""
    questions: dict[str, Request] = {
        "Describe": describe_one(jobs),
        "List, 10 newest": list_newest,
        "List, 100 by name": list_hundred,
        "List, NameContains": list_filtered,
    }
    with ExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory())
        fill_emulator(Path(state), jobs)
        up = [sys.executable, "-m", "emulator", "up", "--port", "{port}", "--state-dir", state]
        own = stack.enter_context(server([*up, "--runtime", "process"], "/_emulator/health"))
        serve = [moto_server(), "-H", "127.0.0.1", "-p", "{port}"]
        moto = stack.enter_context(server(serve, "/moto-api/"))
        fill_moto(moto.port, jobs)
        for name, request in questions.items():
            for one in (own, moto):  # the first requests read models
                speed(one, request, 0.5)
            turns = [
                (speed(own, request, seconds), speed(moto, request, seconds)) for _ in range(rounds)
            ]
            yield name, median([one for one, _ in turns]), median([other for _, other in turns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", type=int, default=[100, 10_000])
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(f"{CLIENTS} clients, median of {chosen.rounds} rounds in turns")
    print(f"{'':29}{'requests a second':^29} {'CPU ms a request':^26}")
    columns = f"{'emulator':>10} {'moto':>9} {'ratio':>7}"
    print(f"{'jobs':>7}  {'':20}{columns} {columns}")
    for jobs in chosen.jobs:
        for name, own, moto in measure(jobs, chosen.seconds, chosen.rounds):
            rates = f"{own.rate:10.0f} {moto.rate:9.0f} {own.rate / moto.rate:6.1f}x"
            costs = f"{own.cost:10.2f} {moto.cost:9.2f} {moto.cost / own.cost:6.1f}x"
            print(f"{jobs:7}  {name:20}{rates} {costs}", flush=True)


if __name__ == "__main__":
    main()
