"""The emulator and the instances are killed while a script writes its checkpoint.

Whatever the moment: S3 keeps a whole object, the newest one that is known to be whole; what may
be torn is kept on this machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_bench import SECONDS, Bench, statuses
from killable import bench_with_s3

from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.model.lifecycle import Phase, Status

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
"""Kills a mode; more of them find rarer moments."""
ACCESS_KEY, SECRET_KEY = "emulator", "emulator-secret"
WRITER = """
import hashlib, io, os, sys, time, zipfile
mode, folder = sys.argv[1], os.environ["CHECKPOINTS"]
last, new = os.path.join(folder, "last.pt"), os.path.join(folder, "new")
open(os.path.join(os.environ["MODEL"], "pid"), "w").write(str(os.getpid()))

def versions():
    for number in range(1, 1 << 20):
        body = b"%08d" % number + os.urandom(1 << 18)
        data = body + hashlib.sha256(body).digest()
        if mode == "archive":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr("data", data)
            data = packed.getvalue()
        yield number, data

for number, data in versions():
    with open(new if mode == "renamed" else last, "wb", buffering=0) as file:
        for start in range(0, len(data), 1 << 15):
            file.write(data[start:start + (1 << 15)])
            time.sleep(0.004)
    if mode == "renamed":
        os.replace(new, last)
    time.sleep(0.7 if number % 4 == 0 else 0.02)  # now and then it rests, and goes up
"""


def number_of(data: bytes) -> int | None:
    """Which version it is; None if it is torn."""
    if data.startswith(b"PK"):
        if not zipfile.is_zipfile(io.BytesIO(data)):
            return None
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read("data")
    body, digest = data[:-32], data[-32:]
    return int(body[:8]) if hashlib.sha256(body).digest() == digest else None


class Site:
    """A store, a state directory and an emulator that can be killed."""

    def __init__(self, root: Path, store: ObjectStore, bucket: str):
        self.root, self.store, self.bucket = root, store, bucket
        self._process: subprocess.Popen[str] | None = None
        self._bench: Bench | None = None

    def start(self, script: str, **more: Any) -> None:
        request = {
            "CheckpointConfig": {"S3Uri": f"s3://{self.bucket}/c"},
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out"},
            **more,
        }
        words = [self.root, self.store.endpoint, ACCESS_KEY, SECRET_KEY, script]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "killable", *map(str, words), json.dumps(request)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """The emulator first, as when a machine goes down; then the instances."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        for pid in self.files("ml/model/pid"):
            os.kill(int(pid.read_text()), signal.SIGKILL)

    def recovered(self) -> Bench:
        self._bench = bench_with_s3(self.root, self.store)
        self._bench.supervisor.recover()
        return self._bench

    def close(self) -> None:
        if self._process:
            self.kill()
        if self._bench:
            self._bench.supervisor.shutdown()

    def files(self, ending: str, below: str = "jobs") -> list[Path]:
        found = (self.root / below).glob(f"**/{ending}")
        return [path for path in found if path.is_file() and path.stat().st_size]

    def last_in_s3(self) -> bytes:
        try:
            return b"".join(self.store.read(self.bucket, "c/last.pt"))
        except StoreError:
            return b""


@pytest.fixture
def site(tmp_path: Path, object_store: ObjectStore, bucket: str) -> Iterator[Site]:
    site = Site(tmp_path, object_store, bucket)
    yield site
    site.close()


def eventually(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def writer(mode: str) -> str:
    return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(WRITER)} {mode}"


@pytest.mark.parametrize("mode", ["in-place", "renamed", "archive"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_whole_checkpoint_is_in_s3_after_a_kill(
    site: Site,
    mode: str,
    number: int,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    site.start(writer(mode))
    eventually(site.last_in_s3)
    time.sleep(random.Random(seed).uniform(0.2, 1.5))
    site.kill()
    before = number_of(site.last_in_s3())
    (path,) = site.files("ml/checkpoints/last.pt")
    local = path.read_bytes()
    assert before is not None, "it was torn already"
    job = site.recovered().ended()
    assert job.life.status is Status.FAILED
    after = number_of(site.last_in_s3())
    assert after is not None, "S3 has a torn object, or none"
    if mode == "in-place":
        assert after in (before, number_of(local))
        kept = [each.read_bytes() for each in site.files("checkpoints/last.pt", "kept")]
        assert after == number_of(local) or kept == [local], "the rest is not thrown away"
    else:
        assert after == (number_of(local) or before), "the newest whole one is not in S3"
    assert not site.files("*"), "the job's directory stays"


def test_a_retry_goes_on_from_the_newest_whole_checkpoint(site: Site) -> None:
    resumes = (
        'if [ -e "$CHECKPOINTS/last.pt" ]; then cp "$CHECKPOINTS/last.pt" "$MODEL/got"; exit 0; fi;'
    )
    site.start(f"{resumes} {writer('renamed')}", RetryStrategy={"MaximumRetryAttempts": 1})
    eventually(site.last_in_s3)
    site.kill()
    (path,) = site.files("ml/checkpoints/last.pt")
    newest = path.read_bytes()
    bench = site.recovered()
    job = bench.ended()
    once = ["Starting", "Downloading", "Training"]
    assert statuses(job) == [*once, *once, "Uploading", "Completed"]
    assert site.last_in_s3() == newest


@pytest.mark.parametrize("mode", ["in-place", "renamed", "archive"])
def test_a_script_that_is_stopped_while_it_writes_leaves_no_torn_object(
    site: Site, mode: str
) -> None:
    bench = bench_with_s3(site.root, site.store)
    bench.submit(
        writer(mode),
        CheckpointConfig={"S3Uri": f"s3://{site.bucket}/c"},
        OutputDataConfig={"S3OutputPath": f"s3://{site.bucket}/out"},
    )
    eventually(site.last_in_s3)
    bench.until(Phase.RUNNING)
    bench.supervisor.stop(bench.job().spec.id)
    job = bench.ended()
    bench.supervisor.shutdown()
    assert job.life.status is Status.STOPPED
    assert number_of(site.last_in_s3()) is not None
