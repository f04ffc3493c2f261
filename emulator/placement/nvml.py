"""GPUs as the driver's own library, NVML, tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pynvml

from emulator.placement.device import (
    DriverProblem,
    Gpu,
    GpuLoad,
    GpuProcess,
    NoDriver,
    Reading,
    remedy,
)

BYTES_PER_MIB = 1024 * 1024
T = TypeVar("T")


def read(nvml: Any = pynvml) -> Reading:
    """Ask NVML; raises NoDriver without the driver's library, DriverProblem if that does not work.

    A GPU that does not answer is left out with a finding: its neighbours still compute.
    """
    with _started(nvml):
        return _read_all(nvml)


def read_loads(nvml: Any = pynvml) -> dict[str, GpuLoad]:
    """What every GPU and MIG slice does now, by UUID; one that does not answer is left out.

    Raises NoDriver and DriverProblem as `read` does.
    """
    loads: dict[str, GpuLoad] = {}
    with _started(nvml):
        for number in range(_ask(nvml, nvml.nvmlDeviceGetCount, 0)):
            with suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                for device in (handle, *_slice_handles(nvml, handle).values()):
                    loads[nvml.nvmlDeviceGetUUID(device)] = _load(nvml, device)
    return loads


def _load(nvml: Any, device: Any) -> GpuLoad:
    busy = _ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu, None)
    used = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device).used, 0) // BYTES_PER_MIB
    return GpuLoad(None if busy is None else float(busy), used, _processes(nvml, device))


@contextmanager
def _started(nvml: Any) -> Iterator[None]:
    """Raises NoDriver and DriverProblem."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            raise NoDriver("libnvidia-ml.so.1 is not there") from None
        raise DriverProblem(_explain(error)) from None
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _read_all(nvml: Any) -> Reading:
    gpus: list[Gpu] = []
    findings: list[str] = []
    for number in range(_ask(nvml, nvml.nvmlDeviceGetCount, 0)):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            gpu = _gpu(nvml, handle, len(gpus))
        except nvml.NVMLError as error:
            findings.append(f"GPU {number}: {_explain(error)}")
            continue
        gpus.append(gpu)
        gpus.extend(_slices(nvml, handle, gpu, len(gpus)))
    return Reading(tuple(gpus), tuple(findings))


def _gpu(nvml: Any, handle: Any, index: int) -> Gpu:
    mode = _ask(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0], nvml.NVML_DEVICE_MIG_DISABLE)
    mig_enabled = mode == nvml.NVML_DEVICE_MIG_ENABLE
    return Gpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        memory_mib=_memory(nvml, handle),
        index=index,
        mig_enabled=mig_enabled,
        # In MIG mode a process is told to be on the GPU and on one slice: the slice counts.
        processes=() if mig_enabled else _processes(nvml, handle),
    )


def _slices(nvml: Any, handle: Any, gpu: Gpu, index: int) -> Iterator[Gpu]:
    if not gpu.mig_enabled:
        return
    for place, device in _slice_handles(nvml, handle).items():
        yield Gpu(
            uuid=nvml.nvmlDeviceGetUUID(device),
            name=nvml.nvmlDeviceGetName(device),
            memory_mib=_memory(nvml, device),
            index=index + place,
            parent=gpu.uuid,
            mig_enabled=True,
            processes=_processes(nvml, device),
        )


def _slice_handles(nvml: Any, handle: Any) -> dict[int, Any]:
    """The MIG slices of a GPU, by their places; not every place has one."""
    found = {}
    for place in range(_ask(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle), 0)):
        with suppress(nvml.NVMLError):
            found[place] = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
    return found


def _memory(nvml: Any, handle: Any) -> int:
    # GPUs that share the machine's memory have none of their own to tell.
    total: int = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total, 0)
    return total // BYTES_PER_MIB


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    running: Iterable[Any] = _ask(
        nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle), ()
    )
    return tuple(_process(nvml, process) for process in running)


def _process(nvml: Any, process: Any) -> GpuProcess:
    # A process in a container of somebody else has no name that this user may see.
    name = _ask(nvml, lambda: nvml.nvmlSystemGetProcessName(process.pid), "")
    return GpuProcess(process.pid, name, (process.usedGpuMemory or 0) // BYTES_PER_MIB)


def _ask(nvml: Any, question: Callable[[], T], otherwise: T) -> T:
    """An answer that some GPUs and drivers do not give."""
    try:
        return question()
    except nvml.NVMLError:
        return otherwise


def _explain(error: Exception) -> str:
    reason = str(error)
    return f"{reason}. {remedy(reason)}".strip()
