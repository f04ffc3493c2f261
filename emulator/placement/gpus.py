"""The GPUs of this machine: found through NVML, else nvidia-smi, else the engine's CDI list.

A file named by EMULATOR_GPU_INVENTORY can stand for them, to rehearse scheduling where there
are none. What is read is parsed by pure functions here and in `nvidia_smi`; only `find_gpus`
and what it calls touch the machine.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emulator.model.errors import SetupError
from emulator.placement import nvidia_smi, nvml
from emulator.placement.device import DriverProblem, Gpu, GpuLoad, NoDriver, Reading
from emulator.placement.visibility import VISIBLE_DEVICES, visible

log = logging.getLogger(__name__)

CDI_PREFIX = "nvidia.com/gpu="
PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
"""Its vendor's number on the PCI bus."""

Reader = Callable[[], Reading]
"""One way to read the GPUs; raises NoDriver or DriverProblem."""


@dataclass(frozen=True)
class Inventory:
    """The GPUs that jobs can get, and why there are not more."""

    gpus: tuple[Gpu, ...] = ()
    findings: tuple[str, ...] = ()
    """What is wrong with the driver, in words for the user."""
    source: str = "none"
    """nvml, nvidia-smi, cdi, file or none."""
    rehearsal: bool = False
    """The GPUs only stand for some: instances get no device."""
    hidden: int = 0
    """Devices that the emulator was not left, by CUDA_VISIBLE_DEVICES."""

    def find(self, uuid: str) -> Gpu | None:
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def meet_on_one(self, held: Mapping[str, Sequence[str]]) -> bool:
        """Whether several hosts that hold these devices compute on one GPU.

        Slices of it count, as NCCL does not tell them apart, and so do slices of which
        nobody knows the GPU.
        """
        seen: set[str] = set()
        for uuids in held.values():
            own = {self._gpu_of(uuid) for uuid in uuids}
            if own & seen:
                return True
            seen |= own
        return False

    def _gpu_of(self, uuid: str) -> str:
        gpu = self.find(uuid)
        return uuid if gpu is None or gpu.parent is None else gpu.parent


def find_gpus(
    stand_in: Path | None = None,
    cdi_devices: Sequence[str] = (),
    readers: Mapping[str, Reader] | None = None,
    environment: Mapping[str, str] = os.environ,
    pci: Path = PCI_DEVICES,
) -> Inventory:
    """Look at the machine (or at the file `stand_in`) once.

    `cdi_devices` are the ids of DiscoveredDevices in `docker info`. The first reader that
    answers wins; one whose driver is broken leaves a finding and the next is tried. The
    CUDA_VISIBLE_DEVICES of `environment` holds for jobs, too. Raises SetupError only for a
    stand-in file that cannot be read.
    """
    if stand_in is not None:
        return read_stand_in(stand_in)
    names = environment.get(VISIBLE_DEVICES)
    findings: list[str] = []
    for source, read in (readers or {"nvml": nvml.read, "nvidia-smi": nvidia_smi.read}).items():
        try:
            reading = read()
            return _left(reading.gpus, names, (*findings, *reading.findings), source)
        except NoDriver as absent:
            log.debug("%s: %s", source, absent)
        except DriverProblem as problem:
            findings.append(f"{source}: {problem}")
    gpus = cdi_gpus(cdi_devices)
    if findings and not gpus and lacks_gpu(pci):
        log.debug("A driver without a GPU: %s", "; ".join(findings))
        return Inventory()
    return _left(gpus, names, tuple(findings), "cdi" if gpus else "none")


def lacks_gpu(pci: Path = PCI_DEVICES) -> bool:
    """Whether there is certainly no NVIDIA GPU, whatever is installed.

    False where the machine does not tell of its PCI devices, as some containers do not.
    """
    try:
        vendors = [path.read_text().strip() for path in pci.glob("*/vendor")]
    except OSError:
        return False
    return bool(vendors) and _NVIDIA not in vendors


def _left(
    gpus: Sequence[Gpu], names: str | None, findings: tuple[str, ...], source: str
) -> Inventory:
    every, left = schedulable(gpus), schedulable(visible(gpus, names))
    return Inventory(left, findings, source, hidden=len(every) - len(left))


def surveyor(
    stand_in: Path | None = None, cdi_devices: Sequence[str] = ()
) -> Callable[[], Inventory]:
    """`find_gpus` to be asked again and again; a stand-in file is read once, now."""
    if stand_in is None:
        return lambda: find_gpus(cdi_devices=cdi_devices)
    rehearsal = read_stand_in(stand_in)
    return lambda: rehearsal


def schedulable(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """The devices that can be given out: a GPU that is cut into MIG slices gives those alone."""
    gpus = tuple(gpus)
    sliced = {gpu.parent for gpu in gpus if gpu.parent}
    return tuple(
        gpu for gpu in gpus if gpu.uuid not in sliced and (gpu.parent or not gpu.mig_enabled)
    )


def cdi_gpus(device_ids: Iterable[str]) -> tuple[Gpu, ...]:
    """GPUs among CDI device names; only those named by UUID can be leased.

    `nvidia.com/gpu=0` names the same device as a UUID does, and `=all` all of them. Name and
    memory are not part of CDI.
    """
    names = [name.removeprefix(CDI_PREFIX) for name in device_ids if name.startswith(CDI_PREFIX)]
    uuids = dict.fromkeys(name for name in names if name.startswith(("GPU-", "MIG-")))
    return tuple(
        Gpu(
            uuid=uuid,
            name="NVIDIA GPU" if uuid.startswith("GPU-") else "NVIDIA MIG device",
            memory_mib=0,
            index=index,
            # Which GPU a slice is of is not said either; slices are kept apart all the same.
            parent=None if uuid.startswith("GPU-") else "",
        )
        for index, uuid in enumerate(uuids)
    )


def load_reader(stand_in: Path | None = None) -> Callable[[], Mapping[str, GpuLoad]]:
    """What tells how the GPUs are used now: it raises NoDriver and DriverProblem.

    For a stand-in file that is what it says, as long as it can be read.
    """
    return nvml.read_loads if stand_in is None else lambda: _stand_in_loads(stand_in)


def _stand_in_loads(path: Path) -> dict[str, GpuLoad]:
    try:
        entries = json.loads(path.read_text("utf-8"))["gpus"]
        return {
            str(entry["uuid"]): GpuLoad(float(entry["busy"]), int(entry.get("used_mib", 0)))
            for entry in entries
            if "busy" in entry
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DriverProblem(f"the GPU inventory {path} cannot be read: {error}") from error


def read_stand_in(path: Path) -> Inventory:
    """The GPUs that a JSON file lists; raises SetupError if it cannot be read."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SetupError(f"The GPU inventory cannot be read: {error}.") from error
    except ValueError as error:
        raise SetupError(f"The GPU inventory {path} is not JSON: {error}.") from error
    return parse_stand_in(document, str(path))


def parse_stand_in(document: Any, where: str) -> Inventory:
    """Read `{"gpus": [{"uuid", "name", "memory_mib"}]}`; raises SetupError for another form.

    `busy` (percent) and `used_mib` of an entry are its load, for who rehearses that.
    """
    shape = 'It must be {"gpus": [{"uuid": "GPU-…", "name": "…", "memory_mib": 81920}]}.'
    try:
        gpus = tuple(
            Gpu(str(entry["uuid"]), str(entry["name"]), int(entry["memory_mib"]), index)
            for index, entry in enumerate(document["gpus"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SetupError(
            f"The GPU inventory {where} has the wrong form ({error}).", shape
        ) from None
    if len({gpu.uuid for gpu in gpus}) != len(gpus):
        raise SetupError(f"The GPU inventory {where} names a UUID twice.", shape)
    # A slice keeps its nature in a rehearsal: an instance gets at most one.
    gpus = tuple(replace(gpu, parent="") if gpu.uuid.startswith("MIG-") else gpu for gpu in gpus)
    return Inventory(gpus, source="file", rehearsal=True)
