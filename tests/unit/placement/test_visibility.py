"""CUDA_VISIBLE_DEVICES, with names as CUDA takes them."""

from __future__ import annotations

import pytest

from emulator.placement.device import Gpu
from emulator.placement.visibility import visible

GPUS = (
    Gpu("GPU-aa", "NVIDIA A100", 40960, 0, mig_enabled=True),
    Gpu("MIG-a0", "NVIDIA A100 MIG 3g.20gb", 19968, 1, "GPU-aa"),
    Gpu("MIG-a1", "NVIDIA A100 MIG 3g.20gb", 19968, 2, "GPU-aa"),
    Gpu("GPU-bb", "NVIDIA L40S", 46068, 3),
    Gpu("GPU-cc", "NVIDIA L40S", 46068, 4),
)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (None, "GPU-aa MIG-a0 MIG-a1 GPU-bb GPU-cc"),
        ("1", "GPU-bb"),
        ("2, 1", "GPU-bb GPU-cc"),
        ("GPU-c", "GPU-cc"),
        ("MIG-a1,GPU-bb", "MIG-a1 GPU-bb"),
        ("0", "GPU-aa MIG-a0 MIG-a1"),
        ("", ""),
        ("-1", ""),
        ("1,3,2", "GPU-bb"),
        ("NoDevFiles", ""),
    ],
)
def test_what_is_left(names: str | None, left: str) -> None:
    assert [gpu.uuid for gpu in visible(GPUS, names)] == left.split()
