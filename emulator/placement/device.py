"""A GPU as a value, and what can be wrong when one is looked for."""

from __future__ import annotations

from dataclasses import dataclass


class NoDriver(Exception):
    """There is no NVIDIA driver here to ask: a machine without GPUs, nothing is wrong."""


class DriverProblem(Exception):
    """There is a driver and it does not work; the text says why and what mends it."""


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU."""

    pid: int
    name: str
    memory_mib: int = 0
    """0 where the driver does not say (MIG, containers)."""


@dataclass(frozen=True)
class Gpu:
    """One device that a job can be given: a whole GPU or a MIG slice."""

    uuid: str
    """GPU-… or MIG-…"""
    name: str
    memory_mib: int
    """0 where it is not known (CDI)."""
    index: int = 0
    """Its place in the machine, for an order that people know from nvidia-smi."""
    parent: str | None = None
    """The UUID of the GPU that this is a slice of, "" if not known; None for a whole GPU."""
    mig_enabled: bool = False
    """In MIG mode a GPU itself cannot compute, even when it has no slice yet."""
    processes: tuple[GpuProcess, ...] = ()

    @property
    def is_slice(self) -> bool:
        return self.parent is not None


@dataclass(frozen=True)
class GpuLoad:
    """What a GPU does at this moment."""

    busy: float | None
    """Percent of the last sampling period in which anything ran on it; None where the driver does
    not say (MIG slices)."""
    used_mib: int = 0
    """Of its memory."""
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a driver said: every device, and what is wrong with those that are missing."""

    gpus: tuple[Gpu, ...]
    """A GPU comes before its slices."""
    findings: tuple[str, ...] = ()


def remedy(reason: str) -> str:
    """What mends a driver that answers with `reason`; "" for a reason nobody knows."""
    reason = reason.lower()
    known = {
        "mismatch": "Reboot, or unload and load the nvidia kernel modules: the driver was "
        "updated while the old one is still loaded.",
        "couldn't communicate": "Load the kernel module (modprobe nvidia) or reinstall the driver "
        "for the running kernel.",
        "driver not loaded": "Load the kernel module: modprobe nvidia.",
        "insufficient permissions": "Give this user access to /dev/nvidia*.",
        "lost": "Reboot: a GPU has fallen off the bus.",
        "unknown error": "A GPU does not answer: look at dmesg for Xid lines, reset it or reboot.",
    }
    return next((advice for sign, advice in known.items() if sign in reason), "")
