"""What `top` shows of the answers of an emulator."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from emulator.cli.top import view

HOLDER = {"name": "train-7", "instances": ["algo-1"], "since": 940.0, "pool": False, "kind": "t"}
GPU = {
    "index": 0,
    "name": "NVIDIA H100",
    "memory_mib": 81920,
    "used_mib": 40960,
    "busy_percent": 87.0,
    "holder": HOLDER,
    "idle_since": None,
    "processes": [],
    "busy_history": [0.0, 50.0, 100.0],
}
MACHINE: dict[str, Any] = {
    "version": "1",
    "runtime": "process",
    "cpu_percent": None,
    "cores": 8,
    "memory": {"used": 2**30, "total": 2**34},
    "disk": {"used": 0, "total": 5e9},
    "gpus": [
        GPU,
        {**GPU, "index": 1, "busy_percent": None, "holder": None, "processes": [{"pid": 4711}]},
    ],
    "queue": [
        {
            "place": 1,
            "name": "next [bold]",
            "instances": 2,
            "instance_type": "ml.g5.xlarge",
            "since": 0.0,
            "reason": "needs 2 GPUs, 0 free",
        }
    ],
    "queue_length": 3,
}
JOB = {
    "name": "train-7",
    "status": "InProgress",
    "phase": "Training",
    "instances": 1,
    "instance_type": "ml.p5.48xlarge",
    "gpus": 1,
    "created": 0.0,
    "metrics": {"loss": 0.123456789},
    "reason": "",
}


def shown(machine: dict[str, Any], jobs: list[dict[str, Any]]) -> str:
    console = Console(width=160, record=True, quiet=True, file=None)
    with console.capture() as captured:
        console.quiet = False
        console.print(view(machine, jobs, 1000.0))
    return captured.get()


def test_gpus_jobs_and_the_queue() -> None:
    text = shown(MACHINE, [JOB, {**JOB, "name": "waits", "reason": "needs 2 GPUs"}])
    assert "train-7 algo-1" in text
    assert "1:00" in text
    assert "others: 4711" in text
    assert "loss 0.12346" in text
    assert "1. next [bold]" in text
    assert "needs 2 GPUs, 0 free" in text
    assert "and 2 more" in text
    assert "waits" not in text


def test_an_idle_machine_without_gpus() -> None:
    text = shown({**MACHINE, "gpus": [], "queue": [], "queue_length": 0}, [])
    assert "none runs" in text
    assert "empty" in text
