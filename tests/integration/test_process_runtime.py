"""What is particular to instances that are processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runtime_harness import Output, Run

from emulator.drivers.process.driver import ProcessRuntime
from emulator.model.plan import InstancePlan, JobPlan, Sharing

EMULATOR = """
import sys, time
from pathlib import Path
from emulator.model.plan import InstancePlan, JobPlan
from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.sandbox_probe import Verdict

root = Path(sys.argv[1])
verdict = Verdict(None, "switched off for this test") if sys.argv[2] == "bare" else None
runtime = ProcessRuntime(Path(sys.executable), "http://x", root, verdict=verdict)
plan = InstancePlan("algo-1", None, None, ("sh", "-c", sys.argv[3]), {}, (), root / "scratch")
def show(host, chunk):
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()

fleet = runtime.launch(JobPlan("j", "arn", (plan,)), show)
print(fleet.next_exit(300))
"""


@pytest.fixture(params=["sandbox", "bare"])
def footing(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    verdict = ProcessRuntime(Path(sys.executable), "http://x", tmp_path).verdict
    if request.param == "sandbox" and verdict.features is None:
        pytest.skip(f"{verdict.reason} {verdict.remedy}")
    return str(request.param)


def test_nothing_outlives_an_emulator_that_is_killed(footing: str, tmp_path: Path) -> None:
    mark = f"3{os.getpid()}"
    script = f"setsid sleep {mark} & echo ready; while :; do sleep 0.05; done"
    emulator = subprocess.Popen(
        [sys.executable, "-c", EMULATOR, str(tmp_path), footing, script], stdout=subprocess.PIPE
    )
    assert emulator.stdout is not None
    with emulator.stdout:
        try:
            assert emulator.stdout.readline() == b"ready\n"
            _await(mark, running=True)
        finally:
            emulator.send_signal(signal.SIGKILL)
            emulator.wait()
    _await(mark, running=False)


def test_an_instance_that_is_ended_takes_everything_along(footing: str, tmp_path: Path) -> None:
    mark = f"4{os.getpid()}"
    script = f"setsid sleep {mark} & echo ready; exit 6"
    done = subprocess.run(
        [sys.executable, "-c", EMULATOR, str(tmp_path), footing, script],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "code=6" in done.stdout
    _await(mark, running=False)


def test_who_is_not_root_may_say_sudo(tmp_path: Path) -> None:
    features = ProcessRuntime(Path(sys.executable), "http://x", tmp_path).verdict.features
    if features is None or not features.user_namespace:
        pytest.skip("there is no sandbox here, or root has no use for sudo in it")
    script = 'sudo chmod -R 777 "$HOME" && exec sudo -n id -u'
    done = subprocess.run(
        [sys.executable, "-c", EMULATOR, str(tmp_path), "sandbox", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith(f"{os.getuid()}\n")
    assert "code=0" in done.stdout


def _await(mark: str, *, running: bool) -> None:
    deadline = time.monotonic() + 60
    while _running(mark) is not running:
        assert time.monotonic() < deadline, f"running is still {not running}"
        time.sleep(0.02)


def _running(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{mark}\0".encode():
                return True
        except OSError:
            continue
    return False


def test_instances_share_memory_where_their_plan_says_so(tmp_path: Path) -> None:
    runtime = ProcessRuntime(Path(sys.executable), "http://x", tmp_path)
    if runtime.verdict.features is None:
        pytest.skip(f"{runtime.verdict.reason} {runtime.verdict.remedy}")
    script = (
        "touch /dev/shm/$(hostname); until [ -e /dev/shm/algo-1 ] && [ -e /dev/shm/algo-2 ]; "
        "do sleep 0.02; done; stat --file-system --format %T /dev/shm"
    )
    instances = tuple(
        InstancePlan(host, None, ("sh", "-c"), (script,), {}, (), tmp_path / host)
        for host in ("algo-1", "algo-2")
    )
    output = Output()
    before = set(Path("/dev/shm").iterdir())
    plan = JobPlan("j", "arn", instances, sharing=Sharing(dev_shm=True))
    fleet = runtime.launch(plan, output)
    try:
        assert {end.code for end in Run(fleet, output, plan).exits()} == {0}
    finally:
        fleet.close()
    assert output.text("algo-1") == output.text("algo-2") == "tmpfs\n"
    assert not [p for p in set(Path("/dev/shm").iterdir()) - before if "sagemaker" in p.name]
