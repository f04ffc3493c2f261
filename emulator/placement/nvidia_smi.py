"""GPUs as nvidia-smi tells them: its XML for everything but the UUIDs of MIG slices.

Those stand only in `nvidia-smi -L`; both name a slice by its number within the GPU.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from emulator.placement.device import DriverProblem, Gpu, GpuProcess, NoDriver, Reading, remedy

TIMEOUT_SECONDS = 30.0
"""A driver that hangs must not hang the emulator; a cold one needs a few seconds a GPU."""
NO_DEVICES = "No devices were found"

_GPU_LINE = re.compile(r"GPU \d+: .*\(UUID: (?P<uuid>GPU-[0-9a-fA-F-]+)\)")
_MIG_LINE = re.compile(
    r"MIG (?P<profile>\S+)\s+Device\s+(?P<index>\d+): \(UUID: (?P<uuid>MIG-\S+)\)"
)


def read() -> Reading:
    """Ask nvidia-smi; raises NoDriver where it is not installed, DriverProblem if it fails."""
    document = _run("-q", "-x")
    listing = _run("-L") if "<mig_device>" in document else ""
    return Reading(parse(document, listing))


def parse(document: str, listing: str = "") -> tuple[Gpu, ...]:
    """Read `nvidia-smi -q -x`, and `nvidia-smi -L` for its MIG slices.

    Every GPU comes before its slices. Raises DriverProblem for text that is not XML: with
    a broken driver nvidia-smi prints a sentence instead, at times with exit code 0.
    """
    try:
        # The text comes from the driver's own tool on this machine, not from outside.
        root = ElementTree.fromstring(document)  # noqa: S314
    except ElementTree.ParseError:
        raise problem(document) from None
    slices = parse_listing(listing)
    gpus: list[Gpu] = []
    for node in root.iter("gpu"):
        gpu = _gpu(node, len(gpus))
        gpus.append(gpu)
        gpus.extend(_slices(node, gpu, slices.get(gpu.uuid, {}), len(gpus)))
    return tuple(gpus)


def parse_listing(listing: str) -> dict[str, dict[int, tuple[str, str]]]:
    """The slices in `nvidia-smi -L`: GPU UUID → number in the GPU → (profile, UUID)."""
    found: dict[str, dict[int, tuple[str, str]]] = {}
    current = ""
    for line in listing.splitlines():
        if gpu := _GPU_LINE.search(line):
            current = gpu["uuid"]
        elif mig := _MIG_LINE.search(line):
            found.setdefault(current, {})[int(mig["index"])] = (mig["profile"], mig["uuid"])
    return found


def problem(output: str) -> DriverProblem:
    """What nvidia-smi said instead of an answer, with what mends it."""
    reason = " ".join(output.split()) or "nvidia-smi printed nothing."
    return DriverProblem(f"{reason} {remedy(reason)}".strip())


def _run(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise NoDriver("nvidia-smi is not installed") from None
    except OSError as error:
        raise DriverProblem(f"nvidia-smi cannot be run: {error}.") from error
    except subprocess.TimeoutExpired:
        raise DriverProblem(f"nvidia-smi did not answer within {TIMEOUT_SECONDS:g} s.") from None
    if NO_DEVICES in done.stdout:
        raise NoDriver("the driver sees no GPU")
    if done.returncode != 0:
        raise problem(done.stdout + done.stderr)
    return done.stdout


def _gpu(node: ElementTree.Element, index: int) -> Gpu:
    mig_enabled = node.findtext("mig_mode/current_mig", "").strip() == "Enabled"
    return Gpu(
        uuid=node.findtext("uuid", "").strip(),
        name=node.findtext("product_name", "").strip(),
        memory_mib=_mib(node.findtext("fb_memory_usage/total", "")),
        index=index,
        mig_enabled=mig_enabled,
        # In MIG mode a process is told to be on the GPU and on one slice: the slice counts.
        processes=tuple(process for _, process in _processes(node)) if not mig_enabled else (),
    )


def _slices(
    node: ElementTree.Element, gpu: Gpu, known: Mapping[int, tuple[str, str]], index: int
) -> Iterator[Gpu]:
    processes = list(_processes(node))
    for number, device in enumerate(node.iter("mig_device")):
        profile, uuid = known.get(int(device.findtext("index", "0")), ("", ""))
        if not uuid:
            continue  # It cannot be given to anybody without a name.
        place = (device.findtext("gpu_instance_id"), device.findtext("compute_instance_id"))
        yield Gpu(
            uuid=uuid,
            name=f"{gpu.name} MIG {profile}",
            memory_mib=_mib(device.findtext("fb_memory_usage/total", "")),
            index=index + number,
            parent=gpu.uuid,
            mig_enabled=True,
            processes=tuple(process for where, process in processes if where == place),
        )


def _processes(
    node: ElementTree.Element,
) -> Iterator[tuple[tuple[str | None, str | None], GpuProcess]]:
    """Processes that compute ("C", "M+C", "C+G"), with the slice they run on; no desktop ("G")."""
    for entry in node.iterfind("processes/process_info"):
        if "C" not in entry.findtext("type", ""):
            continue
        place = (entry.findtext("gpu_instance_id"), entry.findtext("compute_instance_id"))
        yield (
            place,
            GpuProcess(
                int(entry.findtext("pid", "0")),
                entry.findtext("process_name", "").strip(),
                _mib(entry.findtext("used_memory", "")),
            ),
        )


def _mib(text: str) -> int:
    """`81920 MiB` as a number; 0 for N/A and the like."""
    number, _, unit = text.strip().partition(" ")
    return int(number) if unit == "MiB" and number.isdigit() else 0
