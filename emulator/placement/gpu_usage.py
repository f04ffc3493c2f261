"""How busy GPUs are, as nvidia-smi tells it."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

TIMEOUT_SECONDS = 30.0

_QUERY = "--query-gpu=uuid,utilization.gpu,memory.used,memory.total"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuUsage:
    """One GPU's load, in percent."""

    busy: float
    """Of the time of the last sampling period, in which anything ran on it."""
    memory: float
    """Of its memory that is taken."""


def read_usage(uuids: Collection[str]) -> dict[str, GpuUsage]:
    """The load of these GPUs; those the driver does not tell of (MIG slices) are left out."""
    if not uuids:
        return {}
    try:
        done = subprocess.run(
            ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.debug("GPUs cannot be measured: %s", error)
        return {}
    return {uuid: usage for uuid, usage in parse_usage(done.stdout).items() if uuid in uuids}


def parse_usage(listing: str) -> dict[str, GpuUsage]:
    """Read what nvidia-smi printed; lines with `[N/A]` and other text are passed over."""
    found = {}
    for line in listing.splitlines():
        uuid, *texts = (text.strip() for text in line.split(","))
        try:
            busy, used, total = map(float, texts)
        except ValueError:
            continue
        if total:
            found[uuid] = GpuUsage(busy, 100 * used / total)
    return found
