"""GPU UUIDs → what an instance is shown of the machine's GPUs: device files, and a listing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from emulator.model.errors import SetupError

_DRIVER = Path("/proc/driver/nvidia")
_DEV = Path("/dev")
_UNIFIED_MEMORY = "nvidia-uvm"
_COMMON = (
    "nvidiactl",
    _UNIFIED_MEMORY,
    "nvidia-uvm-tools",
    "nvidia-modeset",
    "nvidia-caps",
    # Of all GPUs together, where Linux runs under Windows (WSL).
    "dxg",
)
_MORE_PLACES = ("/usr/lib/wsl/lib", "/usr/local/nvidia/bin")
"""Where nvidia-smi may lie beside PATH: WSL's driver, and the one of Kubernetes' nodes."""
_HELPER = "nvidia-modprobe"
_SECONDS = 30.0


def nvidia_devices(
    uuids: Sequence[str], driver: Path = _DRIVER, dev: Path = _DEV
) -> tuple[str, ...]:
    """Device files for an instance; none without GPUs.

    All GPUs' where the driver does not say which file is whose: it knows no UUIDs of MIG
    slices, and containers and gVisor may hide what it says.
    """
    if not uuids:
        return ()
    minors = _minors(driver)
    if set(uuids) <= minors.keys():
        own = [dev / f"nvidia{minors[uuid]}" for uuid in uuids]
    else:
        own = sorted(dev.glob("nvidia[0-9]*"))
    return tuple(str(path) for path in (*(dev / name for name in _COMMON), *own))


def missing_device(
    uuids: Sequence[str], driver: Path = _DRIVER, dev: Path = _DEV, helper: str = _HELPER
) -> SetupError | None:
    """What keeps CUDA from these GPUs in an instance, with what mends it; None for nothing.

    After a boot some device files are often not there until the first CUDA program has its
    setuid helper make them. No program gains rights inside a sandbox, so they are made here.
    """
    if not uuids or not (dev / "nvidiactl").exists():
        return None
    needed = {dev / _UNIFIED_MEMORY: [helper, "-u", "-c=0"]}
    if any(uuid.startswith("MIG-") for uuid in uuids):
        needed |= {
            dev / "nvidia-caps" / f"nvidia-cap{minor}": [helper, "-f", str(path)]
            for path, minor in _slice_capabilities(driver)
        }
    for path, command in needed.items():
        if not path.exists():
            _run(command)
        if not path.exists():
            problem = f"{path} is missing, and CUDA fails without it."
            return SetupError(problem, f"As root: {shlex.join(command)}")
    return None


def find_nvidia_smi() -> str | None:
    """The program, which jobs need not have on their own PATH."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PLACES))
    return shutil.which("nvidia-smi", path=places)


def list_only(uuids: Sequence[str], program: str) -> str:
    """A shell script in place of nvidia-smi for an instance with these GPUs.

    The toolkit starts a process for each GPU that `nvidia-smi --list-gpus` names, which is
    every GPU whose device file can be opened, whatever CUDA_VISIBLE_DEVICES says: those of
    peers, both GPUs where one of a MIG slice is leased, all without a sandbox. A slice is
    listed below its GPU, and it is the GPU that is counted.
    """
    real = shlex.quote(program)
    if not uuids:
        # What nvidia-smi does without a device.
        listing = "echo 'No devices were found'; exit 6"
    else:
        own = " | ".join(f"*{uuid}*" for uuid in uuids)
        listing = (
            f"{real} -L | while IFS= read -r line; do\n"
            '  case $line in *"UUID: MIG-"*) ;; *) gpu=$line ;; esac\n'
            f"  case $line in {own})\n"
            '    [ "$gpu" = "$line" ] || printf "%s\\n" "$gpu"\n'
            '    printf "%s\\n" "$line" ;;\n'
            "  esac\n"
            "done"
        )
    return (
        f'#!/bin/sh\ncase "$*" in\n-L | --list-gpus) {listing} ;;\n*) exec {real} "$@" ;;\nesac\n'
    )


def _run(command: Sequence[str]) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )


def _slice_capabilities(driver: Path) -> Iterator[tuple[Path, str]]:
    """The files that stand for access to MIG slices, and N of their /dev/nvidia-caps/nvidia-capN.

    (NVIDIA's MIG user guide, device nodes and capabilities.)
    """
    for path in sorted(driver.glob("capabilities/gpu*/mig/**/access")):
        if minor := _facts(path).get("DeviceFileMinor"):
            yield path, minor


def _minors(driver: Path) -> dict[str, str]:
    """UUID → N of /dev/nvidiaN, as the driver tells it."""
    found = [_facts(path) for path in driver.glob("gpus/*/information")]
    keys = {"GPU UUID", "Device Minor"}
    return {facts["GPU UUID"]: facts["Device Minor"] for facts in found if keys <= facts.keys()}


def _facts(path: Path) -> dict[str, str]:
    """Lines of a name, a colon and a value."""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
