"""Input data beside s5cmd: the same objects, store and disk, turn and turn about.

Run it with `python tests/benchmarks/downloads.py`; it prints rates and their ratios. A rate
of 0.9 of s5cmd's or better, and a second job's staging under 0.05 of the first's, are what
the emulator promises.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emulator.data.cache.objects import ObjectCache
from emulator.data.inputs import Sources, Staging, stage
from emulator.data.objectstore.embedded import PAGE_SIZE, EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore, never
from emulator.data.objectstore.transfer import Downloader
from emulator.model.workload import ChannelSpec, Host

KEYS = ("benchmark", "benchmark-secret")
BUCKET = "benchmark"
HOST = Host("algo-1", "ml.m5.large", "workers")


@dataclass(frozen=True)
class Load:
    """Objects of one size."""

    name: str
    count: int
    size: int


LOADS = (Load("large", 32, 16 << 20), Load("small", 5000, 10_000))
MANY = Load("many", 20_000, 100)


def main() -> None:
    """Measure every load a few times and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", action="store_true", help="20 000 objects of 100 bytes, too")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="downloads-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        with EmbeddedStore(root / "state", *KEYS) as server:
            store = ObjectStore(server.endpoint, *KEYS, page_size=PAGE_SIZE)
            store.ensure_bucket(BUCKET)
            for load in (*LOADS, MANY) if arguments.many else LOADS:
                upload(store, load)
                compare(store, load, root, arguments.rounds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(f"peak memory of the emulator's side: {peak:.0f} MB\n")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def upload(store: ObjectStore, load: Load) -> None:
    """Put the objects of a load into the store."""

    def put(number: int) -> None:
        data = os.urandom(load.size)
        store.upload(BUCKET, f"{load.name}/{number % 10}/{number:06}", io.BytesIO(data))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(load.count)))


def compare(store: ObjectStore, load: Load, root: Path, rounds: int) -> None:
    """Turn and turn about, so that whatever else the machine does falls on both."""
    theirs, first, second = [], [], []
    for number in range(rounds):
        target = root / f"s5cmd-{number}"
        theirs.append(timed(lambda target=target: s5cmd(store, load, target)))
        shutil.rmtree(target)
        cache = ObjectCache(root / f"cache-{number}", 1 << 40)
        first.append(timed(lambda cache=cache: stage_once(store, load, cache, root / "job-1")))
        second.append(timed(lambda cache=cache: stage_once(store, load, cache, root / "job-2")))
        cache.close()
        shutil.rmtree(root / f"cache-{number}")
    print_line(load, "s5cmd", theirs, theirs)
    print_line(load, "emulator, first job", first, theirs)
    print_line(load, "emulator, second job", second, theirs)
    share = statistics.median(second) / statistics.median(first)
    sys.stdout.write(f"{load.name}: second job's staging is {share:.3f} of the first's\n")


def timed(action: Callable[[], None]) -> float:
    """Seconds until everything is on the disk."""
    os.sync()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def s5cmd(store: ObjectStore, load: Load, target: Path) -> None:
    """The same objects with s5cmd's own defaults."""
    target.mkdir()
    program = Path(sys.executable).with_name("s5cmd")
    subprocess.run(
        [program, "--log", "error", "cp", f"s3://{BUCKET}/{load.name}/*", f"{target}/"],
        check=True,
        env={
            **os.environ,
            "S3_ENDPOINT_URL": store.endpoint,
            "AWS_ACCESS_KEY_ID": KEYS[0],
            "AWS_SECRET_ACCESS_KEY": KEYS[1],
            "AWS_REGION": "us-east-1",
        },
    )


def stage_once(store: ObjectStore, load: Load, cache: ObjectCache, directory: Path) -> None:
    """What a job of one instance does before it trains: list, fetch, check, show."""
    data, scratch = directory / "data", directory / "scratch"
    for each in (data, scratch):
        each.mkdir(parents=True)
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{load.name}"}
    channel = ChannelSpec("train", "File", {"S3DataSource": source})
    staged = stage(
        Staging(
            channel,
            [HOST],
            {HOST.name: data},
            {HOST.name: directory / "layers"},
            Sources(Downloader(store), cache, scratch, overlays=True),
            lambda _done, _total: None,
            never,
        )
    )
    if (staged.objects, staged.bytes) != (load.count, load.count * load.size):
        raise SystemExit(f"{load.name}: {staged} is not all of it")
    staged.close()
    staged.release()
    shutil.rmtree(directory)


def print_line(load: Load, who: str, seconds: list[float], theirs: list[float]) -> None:
    """Median seconds, the rate, and how it compares."""
    middle = statistics.median(seconds)
    rate = load.count * load.size / middle / 1e6
    ratio = statistics.median(theirs) / middle
    sys.stdout.write(
        f"{load.name}: {who:22} {middle:7.2f} s {rate:7.1f} MB/s "
        f"{load.count / middle:8.0f} objects/s  {ratio:6.2f} of s5cmd's rate\n"
    )


if __name__ == "__main__":
    main()
