"""GPU UUIDs → the device files that show these GPUs and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")


def nvidia_devices(
    uuids: Sequence[str], driver: Path = Path("/proc/driver/nvidia"), dev: Path = Path("/dev")
) -> tuple[str, ...]:
    """Device files for an instance; none without GPUs.

    The toolkit counts GPUs with `nvidia-smi --list-gpus`, which shows every GPU whose
    device file it can open whatever CUDA_VISIBLE_DEVICES says.
    """
    if not uuids:
        return ()
    minors = _minors(driver)
    if set(uuids) <= minors.keys():
        own = [dev / f"nvidia{minors[uuid]}" for uuid in uuids]
    else:
        own = sorted(dev.glob("nvidia[0-9]*"))
    return tuple(str(path) for path in (*(dev / name for name in _COMMON), *own))


def list_only(uuids: Sequence[str], program: str) -> str:
    """A shell script in place of nvidia-smi for an instance that sees GPUs of its peers.

    The toolkit starts a process for each GPU that `nvidia-smi --list-gpus` names.
    """
    wanted = " ".join(f"-e {uuid}" for uuid in uuids)
    return (
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"-L | --list-gpus) {program} -L | grep -F {wanted} ;;\n"
        f'*) exec {program} "$@" ;;\n'
        "esac\n"
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
