"""Is anything lost or left when the emulator is killed with SIGKILL, again and again?

Each round runs a small job with checkpoints, kills the emulator at a random moment of a random
phase, starts it again on the same state directory and looks at the job's end. By hand:
`python tests/rounds/kill_rounds.py --runtime process --rounds 100 --seed 7`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from e2e_jobs import TERMINAL, channel, shell_request, wait
from emulators import RunningEmulator, free_port, start_emulator

BUCKET = "kill-rounds"
PHASES = ("Starting", "Downloading", "Training", "Stopping", "Uploading", "Completed")
ORDER = ("Starting", "Downloading", "Training", "Stopping", "Uploading", *TERMINAL)
STEPS = 25

# Numbers of an attempt's lines have no gap; a checkpoint is told of once it is whole on the disk.
SCRIPT = """
import hashlib, os, sys, time, uuid
attempt, count = uuid.uuid4().hex[:8], 0
def say(text):
    global count
    print("line", attempt, count, text, flush=True)
    count += 1
def whole(step):
    body = (b"%d\\n" % step) * 20000
    return body + hashlib.sha256(body).hexdigest().encode()
path, begin = "/opt/ml/checkpoints/last.pt", 0
if os.path.exists(path):
    data = open(path, "rb").read()
    if hashlib.sha256(data[:-64]).hexdigest().encode() == data[-64:]:
        begin = int(data.split(b"\\n")[0]) + 1
for step in range(begin, int(os.environ["STEPS"])):
    say(f"step {step}")
    target = path if os.environ["SAVES"] == "in place" else path + ".new"
    with open(target, "wb") as file:
        file.write(whole(step))
    if target != path:
        os.replace(target, path)
    say(f"saved {step}")
    time.sleep(0.1)
with open("/opt/ml/model/model", "wb") as file:
    file.write(os.urandom(30_000_000))
say("done")
"""


@dataclass
class Round:
    """What is done to one job."""

    number: int
    phase: str
    delay: float
    saves: str
    retries: bool
    lasting: bool
    """Whether instances of this runtime outlive the emulator."""
    job: str = ""
    met: str = ""
    """The phase just before the kill."""
    wrong: list[str] = field(default_factory=list)

    @property
    def loses_instances(self) -> bool:
        """Whether the job's instances end with the emulator, as the documentation says."""
        return self.met in ("Starting", "Downloading") or not self.lasting

    @property
    def stops(self) -> bool:
        return self.phase == "Stopping"


def plan(seed: int, rounds: int, lasting: bool) -> Iterator[Round]:
    """The same seed gives the same rounds."""
    chance = random.Random(seed)
    for number in range(rounds):
        phase = PHASES[number % len(PHASES)]
        longest = 3.0 if phase == "Training" else 0.3
        yield Round(
            number,
            phase,
            chance.uniform(0, longest),
            chance.choice(("in place", "rename")),
            chance.random() < 0.5,
            lasting,
        )


def submit(emulator: RunningEmulator, one: Round) -> None:
    """Start the job, and stop it where the round wants that."""
    more: dict[str, Any] = {"RetryStrategy": {"MaximumRetryAttempts": 3}} if one.retries else {}
    one.job = f"kill-{one.number}-{uuid.uuid4().hex[:8]}"
    body = shell_request(
        BUCKET,
        "exec python3 /opt/ml/input/data/train/job.py",
        TrainingJobName=one.job,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints/{one.job}"},
        InputDataConfig=[channel(BUCKET, "train", "data")],
        Environment={"SAVES": one.saves, "STEPS": str(STEPS)},
        **more,
    )
    emulator.client("sagemaker").create_training_job(**body)


def describe(emulator: RunningEmulator, one: Round) -> dict[str, Any]:
    answer: dict[str, Any] = emulator.client("sagemaker").describe_training_job(
        TrainingJobName=one.job
    )
    return answer


def await_phase(emulator: RunningEmulator, one: Round, phase: str) -> None:
    """Until the job is in that phase or past it."""
    deadline = time.monotonic() + 120
    while True:
        now = describe(emulator, one)["SecondaryStatus"]
        if now not in ORDER or ORDER.index(now) >= ORDER.index(phase):
            return
        assert time.monotonic() < deadline, f"{one.job} is still {now}"
        time.sleep(0.02)


def disturb(emulator: RunningEmulator, one: Round) -> None:
    """Run the job up to the round's moment and kill the emulator then."""
    submit(emulator, one)
    if one.stops:
        await_phase(emulator, one, "Training")
        time.sleep(one.delay * 5)
        with suppress(Exception):  # it may have ended
            emulator.client("sagemaker").stop_training_job(TrainingJobName=one.job)
    await_phase(emulator, one, one.phase)
    time.sleep(one.delay)
    one.met = describe(emulator, one)["SecondaryStatus"]
    os.kill(emulator.process.pid, signal.SIGKILL)
    emulator.process.wait(30)


def judge(emulator: RunningEmulator, one: Round) -> None:
    """Look at the job's end, and note what is wrong with it."""
    job = wait(emulator.client("sagemaker"), one.job, 180)
    status = job["TrainingJobStatus"]
    wanted = ("Stopped", "Completed") if one.stops else ("Completed",)
    if status == "Failed" and one.loses_instances and not one.retries:
        wanted = ("Failed",)  # as on the service, whose error it is
    if status not in wanted:
        one.wrong.append(f"{status}: {job.get('FailureReason')}")
    lines = _lines(emulator, one)
    saved = _judge_lines(one, lines, status)
    _judge_checkpoint(emulator, one, saved, status)
    _judge_times(one, job)
    if status == "Completed":
        uri = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{BUCKET}/")
        size = emulator.client("s3").head_object(Bucket=BUCKET, Key=uri)["ContentLength"]
        if size < 30_000_000:
            one.wrong.append(f"the model has {size} bytes")


def _lines(emulator: RunningEmulator, one: Round) -> list[list[str]]:
    """The words of the script's lines, of all attempts; each has a stream of its own."""
    logs: Any = emulator.client("logs")
    group, lines = "/aws/sagemaker/TrainingJobs", []
    found = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{one.job}/")
    for stream in found["logStreams"]:
        where = {"logGroupName": group, "logStreamName": stream["logStreamName"]}
        page = logs.get_log_events(**where, startFromHead=True)
        while page["events"]:
            lines += [event["message"] for event in page["events"]]
            token = page["nextForwardToken"]
            page = logs.get_log_events(**where, nextToken=token, startFromHead=True)
    return [line.split(maxsplit=3)[1:] for line in lines if line.startswith("line ")]


def _judge_lines(one: Round, lines: list[list[str]], status: str) -> int:
    """The last step that was told as saved; -1 if none was."""
    numbers: dict[str, list[int]] = {}
    for attempt, number, _ in lines:
        numbers.setdefault(attempt, []).append(int(number))
    for attempt, seen in numbers.items():
        if seen != list(range(len(seen))):
            odd = next(i for i, number in enumerate(seen) if number != i)
            one.wrong.append(f"lines of {attempt}: {seen[odd - 1 : odd + 2]} at {odd}")
    if status == "Completed" and [words for _, _, words in lines[-1:]] != ["done"]:
        one.wrong.append(f"the last line is {lines[-1:]}")
    if status == "Completed" and len(numbers) > 1 and not one.loses_instances:
        one.wrong.append(f"{len(numbers)} attempts")
    steps = [int(words.split()[1]) for _, _, words in lines if words.startswith("saved ")]
    return max(steps, default=-1)


def _judge_checkpoint(emulator: RunningEmulator, one: Round, saved: int, status: str) -> None:
    s3, prefix = emulator.client("s3"), f"checkpoints/{one.job}/"
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    steps = {}
    for entry in found:
        data = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        steps[entry["Key"].removeprefix(prefix)] = _step_of(data)
    # A script that is stopped in the middle of a write leaves no whole file behind.
    whole = one.saves == "rename" or status == "Completed"
    least = STEPS - 1 if status == "Completed" else saved if whole else 0
    if "last.pt" not in steps:
        if saved >= 0 and whole:
            one.wrong.append("no checkpoint in S3")
    elif (step := steps["last.pt"]) is None:
        one.wrong.append("a torn checkpoint in S3")
    elif step < least:
        one.wrong.append(f"the checkpoint in S3 is of step {step}, not of {least}")


def _step_of(data: bytes) -> int | None:
    """None of a file that is not whole; see SCRIPT."""
    if hashlib.sha256(data[:-64]).hexdigest().encode() != data[-64:]:
        return None
    return int(data.split(b"\n")[0])


def _judge_times(one: Round, job: dict[str, Any]) -> None:
    times = [job["CreationTime"]]
    for transition in job["SecondaryStatusTransitions"]:
        times.append(transition["StartTime"])
        if "EndTime" not in transition:
            one.wrong.append(f"{transition['Status']} has no end")
        else:
            times.append(transition["EndTime"])
    if times != sorted(times):
        one.wrong.append("its times are out of order")
    began, ended = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    if ended and not (began and job["CreationTime"] <= began <= ended <= job["LastModifiedTime"]):
        one.wrong.append(f"it trained from {began} to {ended}")


def leftovers(emulator: RunningEmulator, one: Round) -> list[str]:
    """What there is of an ended job beside its record, its logs and its objects."""
    left = []
    ask = urllib.request.Request(f"{emulator.url}/_emulator/gpus")
    if token := emulator.exports.get("EMULATOR_ADMIN_TOKEN"):
        ask.add_header("Authorization", f"Bearer {token}")
    holdings = json.loads(urllib.request.urlopen(ask, timeout=20).read())
    if one.job in json.dumps(holdings):
        left.append(f"lease {holdings}")
    left += [f"directory {path}" for path in emulator.state_dir.glob(f"jobs/*/*/{one.job}*")]
    left += [f"mount {line}" for line in _mounts() if one.job in line]
    left += [f"process {pid}" for pid in _processes(one.job)]
    return left + _docker_leftovers(one.job)


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()


def _processes(word: str) -> Iterator[str]:
    for place in Path("/proc").glob("[0-9]*"):
        if place.name == str(os.getpid()):
            continue
        with suppress(OSError):
            told = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
            if word.encode() in told:
                yield f"{place.name}: {told[:100]!r}"


def _docker_leftovers(job: str) -> list[str]:
    left = []
    label = f"label=sagemaker-emulator.training-job={job}"
    for command in (["ps", "--all"], ["network", "ls"]):
        with suppress(OSError):
            listing = ["docker", *command, "--quiet", "--filter", label]
            told = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
            left += [f"docker {command[0]} {one}" for one in told.split()]
    return left


def await_nothing(emulator: RunningEmulator, one: Round) -> None:
    """A job's end is told before the last of it is put away."""
    deadline = time.monotonic() + 30
    while left := leftovers(emulator, one):
        if time.monotonic() > deadline:
            one.wrong.append(f"left: {left}")
            return
        time.sleep(0.2)


def run(runtime: str, seed: int, rounds: int, root: Path) -> list[Round]:
    """All rounds, in one state directory below `root`."""
    print(f"seed {seed}, {rounds} rounds, runtime {runtime}, below {root}", flush=True)
    port, done = free_port(), []
    settings = root / "settings.toml"
    settings.write_text("sync_seconds = 0.3\nstop_grace_seconds = 5\n", encoding="utf-8")

    def start() -> RunningEmulator:
        return start_emulator(
            root / "state", "--config", str(settings), port=port, runtime=runtime, leave=True
        )

    emulator = start()
    try:
        with urllib.request.urlopen(f"{emulator.url}/_emulator/health", timeout=20) as said:
            lasting = bool(json.load(said)["runtime"]["lasting"])
        s3 = emulator.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="data/job.py", Body=SCRIPT.encode())
        for number in range(20):
            s3.put_object(Bucket=BUCKET, Key=f"data/{number}", Body=os.urandom(1_000_000))
        for one in plan(seed, rounds, lasting):
            began = time.monotonic()
            disturb(emulator, one)
            emulator = start()
            judge(emulator, one)
            await_nothing(emulator, one)
            done.append(one)
            told = "; ".join(one.wrong) or "right"
            retries = "retries" if one.retries else "no retries"
            print(
                f"{one.number:3} {one.phase:11} +{one.delay:.2f} s, {one.saves}, {retries}, "
                f"{time.monotonic() - began:.1f} s: {told}",
                flush=True,
            )
    finally:
        emulator.end()
    print(f"{sum(bool(one.wrong) for one in done)} wrong of {len(done)} (seed {seed})", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-rounds-") as root:
        done = run(chosen.runtime, chosen.seed, chosen.rounds, Path(root))
    return 1 if any(one.wrong for one in done) else 0


if __name__ == "__main__":
    sys.exit(main())
