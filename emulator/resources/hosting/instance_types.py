"""Hosting instance types, as types of which this machine knows the size.

`emulator/placement/instance_types.csv` has the types that training jobs can ask for. Hosting has
131 more: older and smaller sizes, types with a local disk, and other processors.
"""

from __future__ import annotations

import re

_GRAVITON = re.compile(r"ml\.([cmr])\d+g[dn]?\.(.+)|ml\.p6e-gb\d+\..+")
_ACCELERATORS = {
    "inf1": "AWS Inferentia",
    "inf2": "AWS Inferentia2",
    "trn1": "AWS Trainium",
    "trn1n": "AWS Trainium",
    "trn2": "AWS Trainium2",
    "dl1": "Habana Gaudi",
}
_SAME_SIZE = {"t2": "t3", "m5d": "m5", "c5d": "c5", "c6in": "c6i"}
"""Families that differ in their disk or network alone, or in their processor's generation."""
_SMALL = "ml.t3.medium"
"""2 vCPUs and 4 GiB, as the `large` sizes of the c families have."""
_SMALL_FAMILIES = ("c4", "c5", "c5d", "c6i", "c6in")

SERVERLESS_TYPES = ((4096, "ml.t3.medium"), (8192, "ml.t3.large"))
"""What holds the containers of a serverless variant, by the most memory (MB) it asks for."""


def type_of_same_size(instance_type: str) -> str:
    """The type whose cores, memory and GPUs an instance gets here (pure).

    Raises ValueError, with words for the user, for a type whose processor this machine lacks.
    """
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    if reason := _reason_against(instance_type, family):
        raise ValueError(f"sagemaker-emulator: {instance_type} {reason}")
    if size == "large" and family in _SMALL_FAMILIES:
        return _SMALL
    return f"ml.{_SAME_SIZE.get(family, family)}.{size}"


def _reason_against(instance_type: str, family: str) -> str:
    if family in _ACCELERATORS:
        return (
            f"has {_ACCELERATORS[family]} accelerators, which this machine does not have. Use a "
            "GPU type such as ml.g5.xlarge, or ml.local.1gpu."
        )
    if match := _GRAVITON.fullmatch(instance_type):
        instead = f"ml.{match[1]}6i.{match[2]}" if match[1] else "ml.g5.xlarge"
        return (
            "has an arm64 (Graviton) processor, and images for it do not run on this machine. Use "
            f"an x86 type such as {instead}."
        )
    return ""


def serverless_type(memory_mb: int) -> str:
    """The type that holds an instance of a serverless variant."""
    return next(name for most, name in SERVERLESS_TYPES if memory_mb <= most)
