"""Emulators in processes of their own, as a user starts them, and environments for the SDKs."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
SDK_ENVIRONMENTS = {
    "v2": ["sagemaker>=2.257,<3"],
    # The two SDKs cannot share an environment; these parts of v3 train and deploy.
    "v3": ["sagemaker-train>=1.20", "sagemaker-core>=2.20", "sagemaker-serve>=1.20"],
    # Version 2 of the AWS CLI is not on PyPI; its commands are the same.
    "cli": ["awscli>=1.40,<2"],
    # Readers of S3 in training scripts; the constraint keeps one botocore for all of them.
    "s3": [
        "s3torchconnector>=1.4",
        "aiobotocore[boto3]>=2.20",
        "s3fs>=2025.1",
        "smart_open[s3]>=7",
        "webdataset>=0.2",
        "pyarrow>=19",
    ],
    # Its `Expect: 100-continue` is easily put out of step.
    "boto3-1.38": ["boto3==1.38.46"],
    # Stands for any S3 server.
    "moto": ["moto[s3,server]>=5.1"],
}
WITH_OURS = ("s3",)
"""Environments that also see the packages of the one the tests run in: PyTorch is large."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RunningEmulator:
    """`sagemaker-emulator up` in a child process."""

    process: subprocess.Popen[bytes]
    url: str
    state_dir: Path
    log: Path
    exports: Mapping[str, str]
    """What `sagemaker-emulator env` prints."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user who has evaluated `sagemaker-emulator env`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EMULATOR_"))}
        return {**kept, **self.exports}

    def client(self, service: str, **overrides: Any) -> Any:
        return boto3.client(
            service,
            **{
                "endpoint_url": self.url,
                "region_name": self.exports["AWS_REGION"],
                "aws_access_key_id": self.exports["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": self.exports["AWS_SECRET_ACCESS_KEY"],
                **overrides,
            },
        )

    def end(self, timeout: float = 120) -> int:
        self.process.terminate()
        return self.process.wait(timeout)


def start_emulator(
    state_dir: Path,
    *flags: str,
    port: int | None = None,
    runtime: str = "process",
    leave: bool | None = None,
) -> RunningEmulator:
    """Start `python -m emulator up` and wait until its health page answers.

    `runtime` is set, so that a test means the same on machines with and without an engine.
    With `leave`, the default for containers, jobs outlive the emulator.
    """
    leave = runtime == "docker" if leave is None else leave
    chosen = port or free_port()
    state_dir.mkdir(parents=True, exist_ok=True)
    log = state_dir.with_suffix(".log")
    where = ["--state-dir", str(state_dir), "--port", str(chosen), *flags]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "emulator", "up", *where],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("EMULATOR_")},
                "EMULATOR_RUNTIME": runtime,
                "EMULATOR_LEAVE_CONTAINERS": str(leave).lower(),
            },
        )
    url = f"http://127.0.0.1:{chosen}"
    deadline = time.monotonic() + 120
    while not healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            if port is None and f"port {chosen} is taken" in log.read_text():
                return start_emulator(
                    state_dir, *flags, runtime=runtime, leave=leave
                )  # by somebody else since
            raise AssertionError(f"the emulator did not start:\n{log.read_text()}")
        time.sleep(0.05)
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            "emulator",
            "env",
            "--state-dir",
            str(state_dir),
            "--port",
            str(chosen),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return RunningEmulator(process, url, state_dir, log, read_exports(printed))


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_emulator/health", timeout=20) as answer:
            return bool(json.load(answer)["status"] == "ok")
    except OSError:
        return False


def read_exports(text: str) -> dict[str, str]:
    """The variables that a shell would have after evaluating the lines."""
    words = [shlex.split(line) for line in text.splitlines() if line.startswith("export ")]
    return dict(assignment.split("=", 1) for _, assignment in words)


def sdk_python(name: str) -> Path:
    """The interpreter of an environment with that SDK; made once per checkout."""
    home = Path(os.environ.get("SDK_ENVIRONMENTS", REPOSITORY / ".envs")) / f"sdk-{name}"
    python = home / "bin" / "python"
    stamp = home / "installed.json"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be making it
        _make_environment(home, python, stamp, SDK_ENVIRONMENTS[name])
    return python


def _make_environment(home: Path, python: Path, stamp: Path, packages: list[str]) -> None:
    """Make it, unless it is there with these packages."""
    if stamp.exists() and json.loads(stamp.read_text()) == packages:
        return
    venv.create(home, clear=True)
    if home.name.removeprefix("sdk-") in WITH_OURS:
        (site,) = home.glob("lib/python*/site-packages")
        (site / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    # Its own pip, and compiling what is never imported, would take most of the time.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-compile"]
    subprocess.run([*pip, *packages], check=True, timeout=900)
    stamp.write_text(json.dumps(packages))


def as_first_layout(state_dir: Path) -> None:
    """Turn a state directory back into what versions before the table of workloads left.

    Training jobs had a table of their own, and what was started stood in files.
    """
    connection = sqlite3.connect(state_dir / "emulator.sqlite3", isolation_level=None)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM workload")]
    for table in ("workload", "hosting", "endpoint_instance", "async_invocation"):
        connection.execute(f"DROP TABLE {table}")
    schema = files("emulator.workloads.store")
    for script in ("schema.sql", "warm_pools.sql", "orders.sql", "runtimes.sql"):
        connection.executescript(schema.joinpath(script).read_text("utf-8"))
    for row in rows:
        assert row.pop("kind") == "training-job"
        if run := row.pop("run"):
            attempt = json.loads(run)
            del attempt["ending"], attempt["reason"]
            job = state_dir / "jobs" / row["account"] / row["region"] / row["name"]
            (job / "attempt.json").write_text(json.dumps(attempt), encoding="utf-8")
        life = json.loads(row["life"])
        for entry in life["transitions"]:
            entry["status"] = {"Running": "Training"}.get(entry["status"], entry["status"])
        for name in ("started", "ended"):
            life[f"training_{name}"] = life.pop(name)
        row["life"] = json.dumps(life)
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(
            f"INSERT INTO training_job ({columns}) VALUES ({marks})", list(row.values())
        )
    connection.execute("PRAGMA user_version = 5")  # these four scripts, and that of the leases
    connection.close()


def submit_example(
    python: Path | str, script: str, data: Path, environment: dict[str, str], *words: str
) -> str:
    """What a script of examples/ prints; `words` are more of its arguments."""
    done = subprocess.run(
        [python, EXAMPLES / script, "--data", data, *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
