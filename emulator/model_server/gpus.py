"""The GPUs that this process may use, found without PyTorch, whose import takes seconds."""

from __future__ import annotations

import os
import subprocess

LOOK_UP_SECONDS = 20


def visible_gpus() -> tuple[str, ...]:
    """The entries for `CUDA_VISIBLE_DEVICES`; () where there is no NVIDIA GPU."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip() not in ("", "-1"))
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOOK_UP_SECONDS,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.startswith("GPU-"))
