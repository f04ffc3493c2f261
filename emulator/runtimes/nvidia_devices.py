"""GPU UUIDs → what an instance is shown of the machine's GPUs: device files, and a listing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
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
_MAKE_UNIFIED_MEMORY = ("nvidia-modprobe", "-u", "-c=0")
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
    dev: Path = _DEV, make: Sequence[str] = _MAKE_UNIFIED_MEMORY
) -> SetupError | None:
    """What stands against CUDA in an instance, with what mends it; None for nothing.

    After a boot /dev/nvidia-uvm is often not there until the first CUDA program has its
    setuid helper make it. No program gains rights inside a sandbox, so that one makes it here.
    """
    path = dev / _UNIFIED_MEMORY
    if path.exists() or not (dev / "nvidiactl").exists():
        return None
    remedy = f"As root: {shlex.join(make)}"
    try:
        subprocess.run(
            make, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        remedy = f"As root: modprobe {path.name}"
    if path.exists():
        return None
    return SetupError(f"{path} is missing, and CUDA fails without it.", remedy)


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


def _minors(driver: Path) -> dict[str, str]:
    """UUID → N of /dev/nvidiaN, as the driver tells it."""
    minors = {}
    for information in driver.glob("gpus/*/information"):
        lines = (line.partition(":") for line in information.read_text().splitlines())
        facts = {name.strip(): value.strip() for name, _, value in lines}
        if "GPU UUID" in facts and "Device Minor" in facts:
            minors[facts["GPU UUID"]] = facts["Device Minor"]
    return minors
