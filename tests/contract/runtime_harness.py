"""Starting shell scripts as instances of any runtime, and looking at what they did."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from emulator.drivers.base import Fleet, LastingRuntime
from emulator.model.plan import Exit, JobPlan, Mount

PATIENCE = 60.0


@dataclass
class Output:
    """A sink that keeps everything, host by host."""

    data: dict[str, bytearray] = field(default_factory=dict)

    def __call__(self, host: str, chunk: bytes) -> None:
        self.data.setdefault(host, bytearray()).extend(chunk)

    def text(self, host: str = "algo-1") -> str:
        return bytes(self.data.get(host, b"")).decode()


@dataclass
class Run:
    """A job that was launched."""

    fleet: Fleet
    output: Output
    plan: JobPlan
    left: bool = False
    """Its fleet was given up: what follows is the next emulator's."""

    def exits(self, count: int | None = None) -> list[Exit]:
        """The next ends, of all instances unless told otherwise."""
        found = []
        for _ in range(len(self.plan.instances) if count is None else count):
            end = self.fleet.next_exit(PATIENCE)
            assert end is not None, f"nothing ended in {PATIENCE} s; output: {self.output.data}"
            found.append(end)
        return found

    def await_text(self, text: str, host: str = "algo-1") -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.output.text(host):
            assert time.monotonic() < deadline, f"no {text!r} in {self.output.text(host)!r}"
            time.sleep(0.01)

    def directory(self, target: str, host: str = "algo-1") -> Path:
        """Where this machine has what the instance sees at `target`."""
        instance = next(i for i in self.plan.instances if i.host == host)
        return next(mount.source for mount in instance.mounts if mount.target == target)


Launch = Callable[..., Run]
Next = Callable[[], LastingRuntime]


def instance_mounts(root: Path) -> tuple[Mount, ...]:
    names = ("input", "model", "output", "checkpoints")
    ml = tuple(Mount(made(root / "ml" / name), f"/opt/ml/{name}") for name in names)
    return (*ml, Mount(made(root / "tmp"), "/tmp"))


def made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
