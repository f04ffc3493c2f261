"""The pytest plugin as a project uses it: its tests are run by a pytest of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--trouble", default="")
given = parser.parse_args()
print("I am", os.environ["SM_CURRENT_HOST"], flush=True)
for epoch in range(given.epochs):
    print(f"loss={1 / (epoch + 1):.2f};", flush=True)
if given.trouble:
    raise RuntimeError(given.trouble)
lines = [p.read_text() for p in pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir()]
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text("".join(lines))
"""

TESTS = """
import os
import pytest

def test_trains(sagemaker_train, tmp_path):
    (tmp_path / "numbers.csv").write_text("1,2")
    job = sagemaker_train("src", instances=2, hyperparameters={"epochs": 2}, toolkit=False,
                          inputs={"train": tmp_path}, metrics={"loss": "loss=([0-9.]+)"})
    assert job.status == "Completed"
    assert "I am algo-2" in job.logs and list(job.instance_logs) == ["algo-1", "algo-2"]
    assert job.metrics["loss"] == 0.5
    assert (job.model / "model.txt").read_text() == "1,2"

def test_with_the_toolkit(sagemaker_train, tmp_path):
    (tmp_path / "numbers.csv").write_text("3")
    job = sagemaker_train("src", hyperparameters={"epochs": 1}, inputs={"train": tmp_path})
    assert (job.model / "model.txt").read_text() == "3"

def test_says_why_it_failed(sagemaker_train):
    sagemaker_train("src", hyperparameters={"epochs": 1, "trouble": "a bad day"}, toolkit=False)

def test_seeds_a_fault(sagemaker_train, sagemaker_faults):
    sagemaker_faults("CapacityError")
    job = sagemaker_train("src", hyperparameters={"epochs": 1}, check=False, toolkit=False)
    assert job.failure_reason.startswith("CapacityError")

def test_the_fault_is_taken_back(sagemaker_train, tmp_path):
    (tmp_path / "numbers.csv").write_text("4")
    sagemaker_train("src", hyperparameters={"epochs": 1}, inputs={"train": tmp_path}, toolkit=False)

@pytest.mark.sagemaker(gpus=64)
def test_needs_gpus(sagemaker_train):
    raise AssertionError("it must not run")

def test_points_boto3_at_it(sagemaker_env, sagemaker_bucket):
    import boto3
    boto3.client("s3").put_object(Bucket=sagemaker_bucket, Key="a b/c", Body=b"1")
    assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"

def test_leaves_nothing_in_the_process(sagemaker_emulator):
    assert "AWS_ENDPOINT_URL" not in os.environ
    buckets = sagemaker_emulator.client("s3").list_buckets()["Buckets"]
    assert not [bucket for bucket in buckets if bucket["Name"].startswith("test-")]
"""

SHARED = """
import os, signal
import pytest

@pytest.mark.parametrize("number", range(6))
def test_uses_it(sagemaker_emulator, number):
    sagemaker_emulator.client("sagemaker").list_training_jobs()
    account = sagemaker_emulator.client("sts").get_caller_identity()["Account"]
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(f"{sagemaker_emulator.endpoint_url} {account}\\n")
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EMULATOR_"))}
    # Short: sockets of jobs lie below it.
    return {**kept, "TMPDIR": str(tmp_path), "SEEN": str(tmp_path / "seen"), **more}


def start(project: Path, tmp_path: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *flags, "."],
        cwd=project,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def emulators(tmp_path: Path) -> list[int]:
    """The processes that belong to a run whose temporary files are there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"--lifeline" in words and str(tmp_path).encode() in words:
                found.append(int(entry.name))
    return found


def wait_until_none(tmp_path: Path) -> None:
    deadline = time.monotonic() + 60
    while left := emulators(tmp_path):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "src").mkdir(parents=True)
    (place / "src/train.py").write_text(SCRIPT)
    (place / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p no:rerunfailures\n")
    return place


def test_a_project_trains_in_its_tests(project: Path, tmp_path: Path) -> None:
    (project / "test_training.py").write_text(TESTS)
    output, _ = start(project, tmp_path).communicate(timeout=280)
    results = dict(re.findall(r"::(\w+) (PASSED|FAILED|SKIPPED|ERROR)", output))
    assert results == {
        "test_trains": "PASSED",
        "test_with_the_toolkit": "PASSED",
        "test_says_why_it_failed": "FAILED",
        "test_seeds_a_fault": "PASSED",
        "test_the_fault_is_taken_back": "PASSED",
        "test_needs_gpus": "SKIPPED",
        "test_points_boto3_at_it": "PASSED",
        "test_leaves_nothing_in_the_process": "PASSED",
    }, output
    assert "RuntimeError: a bad day" in output
    assert "last lines of algo-1" in output
    assert "emulator/testing/" not in output, "the traceback ends at the test's own line"
    wait_until_none(tmp_path)
    assert not list(tmp_path.glob("sagemaker-emulator-*"))


def test_workers_share_one_emulator_that_ends_with_the_last(project: Path, tmp_path: Path) -> None:
    (project / "test_shared.py").write_text(SHARED)
    output, _ = start(project, tmp_path, "-n", "2").communicate(timeout=280)
    assert "5 passed" in output, output  # and one whose worker was killed
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert len({url for url, _ in seen}) == 1
    assert len({account for _, account in seen}) >= 2
    wait_until_none(tmp_path)
    assert not list(tmp_path.glob("sagemaker-emulator-*"))


def test_it_ends_with_a_pytest_that_is_killed(project: Path, tmp_path: Path) -> None:
    (project / "test_long.py").write_text(
        "import time\n"
        "def test_waits(sagemaker_emulator):\n"
        "    print('it runs', flush=True)\n"
        "    time.sleep(600)\n"
    )
    running = start(project, tmp_path, "-s")
    assert running.stdout
    for line in running.stdout:
        if "it runs" in line:
            break
    assert emulators(tmp_path)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_until_none(tmp_path)


def test_an_emulator_that_cannot_start_says_why(project: Path, tmp_path: Path) -> None:
    (project / "test_fails.py").write_text("def test_it(sagemaker_emulator): pass\n")
    output, _ = start(project, tmp_path, "--sagemaker-runtime", "nonsense").communicate(timeout=280)
    assert "The SageMaker emulator did not start" in output
    assert "nonsense" in output or "runtime" in output


SESSION = """
import os

def test_uploads(sagemaker_session, sagemaker_bucket):
    assert sagemaker_session.upload_data(__file__).startswith(f"s3://{sagemaker_bucket}/")
    # It asks STS at its public name.
    assert sagemaker_session.account_id() == "123456789012"

def test_leaves_nothing():
    assert not {"AWS_ENDPOINT_URL", "HTTPS_PROXY"} & set(os.environ)
"""


@pytest.mark.sdk
def test_a_session_of_sdk_v2(
    project: Path, tmp_path: Path, sdk_v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = next((sdk_v2.parent.parent / "lib").glob("python*/site-packages"))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    (project / "test_session.py").write_text(SESSION)
    output, _ = start(project, tmp_path).communicate(timeout=280)
    assert "2 passed" in output, output
