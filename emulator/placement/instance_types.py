"""What each instance type has on the service, and types that only exist on this machine.

The table in `instance_types.csv` is data: 225 training instance types as AWS documents them.
Two families are the emulator's own:

- `ml.local.<n>gpu`: n of this machine's GPUs, e.g. `ml.local.2gpu`;
- `ml.glocal.<n>xlarge` (`ml.glocal.xlarge` is 1) and `ml.glocal.<n>gpu`: the same under a name
  that begins with g. The SDKs choose the GPU image by that letter and check no further
  (measured with sagemaker 2.257 and sagemaker-train 1.27).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from emulator.model.errors import SetupError

MIB_PER_GIB = 1024
_LOCAL = re.compile(r"ml\.(?:g?local\.(?P<gpus>\d{1,3})gpu|glocal\.(?P<size>\d{0,3})xlarge)")
# A local type has no size of its own: each GPU brings what ml.g4dn.xlarge, the smallest
# GPU instance, has beside it.
_LOCAL_VCPU = 4
_LOCAL_MEMORY_MIB = 16 * MIB_PER_GIB
_OWN_NAME = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
_OWN_KEYS = frozenset({"vcpu", "memory_gib", "gpu_count", "gpu_model", "gpu_memory_mib"})


@dataclass(frozen=True)
class InstanceType:
    """One instance type; 0 and "" stand for what is not documented or not there."""

    name: str
    vcpu: int
    memory_mib: int
    gpu_count: int = 0
    gpu_model: str = ""
    gpu_memory_mib: int = 0
    """Of each GPU."""
    neuron_devices: int = 0
    efa_interfaces: int = 0
    local_nvme_gb: int = 0
    network_mbps: int = 0
    arch: str = "amd64"


@dataclass(frozen=True)
class Catalog:
    """Every instance type that can be asked for."""

    types: Mapping[str, InstanceType]

    def find(self, name: str) -> InstanceType | None:
        """The type of that name; None for one that neither AWS nor this machine has."""
        return self.types.get(name) or _local(name)


def load_catalog(own: Mapping[str, Mapping[str, Any]] | None = None) -> Catalog:
    """AWS's types and the user's own, which win over AWS's of the same name.

    An entry of `own` is a name and vcpu, memory_gib, gpu_count, gpu_model, gpu_memory_mib
    (all but the first two optional). Raises SetupError for an entry that cannot be read.
    """
    table = resources.files(__package__).joinpath("instance_types.csv")
    types = parse_table(table.read_text("utf-8").splitlines())
    for name, members in (own or {}).items():
        types[name] = _own(name, members)
    return Catalog(types)


def parse_table(lines: Iterable[str]) -> dict[str, InstanceType]:
    """Read the CSV table, by name; an empty cell is 0 or ""."""
    rows = csv.DictReader(lines)
    return {
        row["instance_type"]: InstanceType(
            name=row["instance_type"],
            vcpu=int(row["vcpu"]),
            memory_mib=round(float(row["memory_gib"]) * MIB_PER_GIB),
            gpu_count=_number(row["gpu_count"]),
            gpu_model=row["gpu_model"],
            gpu_memory_mib=_number(row["gpu_memory_mib_each"]),
            neuron_devices=_number(row["neuron_devices"]),
            efa_interfaces=_number(row["efa_interfaces"]),
            local_nvme_gb=_number(row["local_nvme_gb"]),
            network_mbps=_number(row["network_mbps"]),
            arch=row["arch"],
        )
        for row in rows
    }


def _number(cell: str) -> int:
    return int(cell) if cell else 0


def _local(name: str) -> InstanceType | None:
    match = _LOCAL.fullmatch(name)
    if match is None:
        return None
    gpus = int(match["gpus"] or match["size"] or 1)
    nodes = max(1, gpus)
    return InstanceType(name, nodes * _LOCAL_VCPU, nodes * _LOCAL_MEMORY_MIB, gpus)


def _own(name: str, members: Mapping[str, Any]) -> InstanceType:
    where = f"The instance type {name} in the settings"
    if not _OWN_NAME.fullmatch(name):
        raise SetupError(
            f"{where} has a name that no client sends.", "Write it as ml.<family>.<size>."
        )
    if unknown := sorted(set(members) - _OWN_KEYS):
        raise SetupError(
            f"{where} has unknown members: {', '.join(unknown)}.",
            f"Known ones: {', '.join(sorted(_OWN_KEYS))}.",
        )
    try:
        own = InstanceType(
            name=name,
            vcpu=int(members["vcpu"]),
            memory_mib=round(float(members["memory_gib"]) * MIB_PER_GIB),
            gpu_count=int(members.get("gpu_count", 0)),
            gpu_model=str(members.get("gpu_model", "")),
            gpu_memory_mib=int(members.get("gpu_memory_mib", 0)),
        )
    except KeyError as missing:
        raise SetupError(f"{where} lacks {missing.args[0]}.") from None
    except (TypeError, ValueError) as error:
        raise SetupError(f"{where} cannot be read: {error}.") from None
    if own.vcpu < 1 or own.memory_mib < 1 or own.gpu_count < 0:
        raise SetupError(f"{where} needs at least one vcpu and some memory.")
    return own
