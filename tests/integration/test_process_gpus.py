"""What instances of the process runtime see of GPUs, with a program in nvidia-smi's place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from runtime_harness import Output, Run

from emulator.drivers.process.driver import ProcessRuntime
from emulator.drivers.process.sandbox_probe import Verdict
from emulator.drivers.scratch_files import write_command
from emulator.model.plan import InstancePlan, JobPlan, Mount, Sharing

LISTING = (
    "GPU 0: NVIDIA A100 (UUID: GPU-a)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-a0)\n"
    "GPU 1: NVIDIA A100 (UUID: GPU-b)\n"
    "GPU 2: NVIDIA A100 (UUID: GPU-c)\n"
)
COUNT = "from sagemaker_training import environment; print(environment.num_gpus())"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    """A program nvidia-smi on this machine, in a directory that instances see, too."""
    programs = tmp_path / "driver"
    programs.mkdir()
    write_command(programs / "nvidia-smi", f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return Mount(programs, str(programs), read_only=True)


def counts(runtime: ProcessRuntime, plan: JobPlan) -> list[str]:
    """What the training toolkit counts on each instance."""
    output = Output()
    fleet = runtime.launch(plan, output)
    try:
        Run(fleet, output, plan).exits()
    finally:
        fleet.close()
    return [output.text(host).split()[-1] for host in plan.hosts]


def plan_of(tmp_path: Path, driver: Mount, *gpus: tuple[str, ...]) -> JobPlan:
    instances = tuple(
        InstancePlan(
            f"algo-{number}",
            None,
            None,
            ("python3", "-c", COUNT),
            {},
            (driver,),
            tmp_path / f"algo-{number}",
            uuids,
        )
        for number, uuids in enumerate(gpus, start=1)
    )
    return JobPlan("j", "arn", instances, sharing=Sharing(all_gpus_visible=True))


def test_the_toolkit_counts_an_instances_own_gpus(tmp_path: Path, driver: Mount) -> None:
    runtime = ProcessRuntime(Path(sys.executable), "http://x", tmp_path)
    if runtime.verdict.features is None:
        pytest.skip(f"{runtime.verdict.reason} {runtime.verdict.remedy}")
    plan = plan_of(tmp_path, driver, ("GPU-b",), ("MIG-a0",), ("GPU-b", "GPU-c"), ())
    assert counts(runtime, plan) == ["1", "1", "2", "0"]


def test_so_it_does_where_no_sandbox_hides_the_others(tmp_path: Path, driver: Mount) -> None:
    none = Verdict(None, "switched off for this test")
    runtime = ProcessRuntime(Path(sys.executable), "http://x", tmp_path, verdict=none)
    assert counts(runtime, plan_of(tmp_path, driver, ("GPU-c",))) == ["1"]
