"""What a new user waits for: the installation, a first job, and a first test that fails.

    python tests/benchmarks/first_minutes.py

In a new environment: the wheel of this checkout, boto3 and pytest, as a project has them that
tests its training script. The script needs no framework. Downloads are timed apart from the rest:
they depend on the network and on where the package index is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SCRIPT = """\
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
for epoch in range(parser.parse_args().epochs):
    print(f"loss={1 / (epoch + 1):.2f};", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text("trained")
"""
TEST = """\
def test_the_script_learns(sagemaker_train):
    job = sagemaker_train("src", hyperparameters={"epochs": 4}, metrics={"loss": "loss=([0-9.]+)"})
    assert job.metrics["loss"] < 0.5
    assert (job.model / "model.txt").exists()
"""
FAILING = TEST.replace('{"epochs": 4}', '{"epochs": "many"}')
COMPLAINT = "argument --epochs: invalid int value: 'many'"


def main() -> None:
    """Print one line a figure."""
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    environment, wheels = folder / "environment", folder / "wheels"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, REPOSITORY)
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    wanted = [*wheels.glob("*.whl"), "boto3", "pytest"]
    before = megabytes(environment)
    seconds = run(python, "-m", "pip", "download", "-q", "-d", wheels, *wanted)
    say("pip: downloads", f"{seconds:.0f} s, {megabytes(wheels):.0f} MB")
    local = ["--no-index", "--find-links", wheels]
    seconds = run(python, "-m", "pip", "install", "-q", *local, *wanted)
    say("pip: installation", f"{seconds:.0f} s, {megabytes(environment) - before:.0f} MB")

    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text(SCRIPT)
    passing, failing = folder / "test_passing.py", folder / "test_failing.py"
    passing.write_text(TEST)
    failing.write_text(FAILING)
    # The first run of a new environment compiles every module; a second one does not.
    for which in ("first", "second"):
        seconds = run(python, "-m", "pytest", "-q", passing)
        say(f"{which} test, with its job", f"{seconds:.1f} s")
    began = time.monotonic()
    done = subprocess.run([python, "-m", "pytest", failing], capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode != 1 or COMPLAINT not in done.stdout:
        sys.exit(f"the log of the job is not shown:\n{done.stdout}{done.stderr}")
    say("failing test, with its log", f"{seconds:.1f} s")
    say("lines of the test", str(len(TEST.splitlines())))


def run(*command: object) -> float:
    """The seconds that a command took; ends this script if it fails."""
    began = time.monotonic()
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def megabytes(folder: Path) -> float:
    """What the files below a folder take."""
    return sum(file.lstat().st_size for file in folder.rglob("*")) / 1e6


def say(what: str, figure: str) -> None:
    print(f"{what:<28} {figure}", flush=True)


if __name__ == "__main__":
    main()
