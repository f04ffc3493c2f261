"""NVML as it answers on other machines: a stand-in with the functions that are asked."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml
import pytest

from emulator.placement import nvml
from emulator.placement.device import DriverProblem, GpuLoad, GpuProcess, NoDriver

MIB = 1024 * 1024


class NVMLError(Exception):
    """As pynvml's: a number, and NVML's words for it."""

    words = {  # noqa: RUF012
        2: "Invalid Argument",
        3: "Not Supported",
        4: "Insufficient Permissions",
        6: "Not Found",
        9: "Driver Not Loaded",
        12: "NVML Shared Library Not Found",
        15: "GPU is lost",
        18: "Driver/library version mismatch",
    }

    def __init__(self, value):
        super().__init__(self.words[value])
        self.value = value


@dataclass
class Device:
    uuid: str
    name: str = "NVIDIA L40S"
    total: int | None = 46068 * MIB
    mig: int | None = None
    slices: dict = field(default_factory=dict)
    processes: list = field(default_factory=list)
    lost: bool = False
    busy: int | None = None
    used: int = 0


class Nvml:
    """What a machine with these devices answers."""

    NVMLError = NVMLError
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_DEVICE_MIG_DISABLE = 0
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *devices, broken=None, names=None):
        self.devices = devices
        self.broken = broken
        self.names = names or {}
        self.open = 0

    def nvmlInit(self):  # noqa: N802
        if self.broken:
            raise NVMLError(self.broken)
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        if self.devices[index].lost:
            raise NVMLError(15)
        return self.devices[index]

    def nvmlDeviceGetUUID(self, device):  # noqa: N802
        return device.uuid

    def nvmlDeviceGetName(self, device):  # noqa: N802
        return device.name

    def nvmlDeviceGetMemoryInfo(self, device):  # noqa: N802
        if device.total is None:
            raise NVMLError(3)
        return SimpleNamespace(total=device.total, used=device.used)

    def nvmlDeviceGetUtilizationRates(self, device):  # noqa: N802
        if device.busy is None:
            raise NVMLError(3)
        return SimpleNamespace(gpu=device.busy)

    def nvmlDeviceGetMigMode(self, device):  # noqa: N802
        if device.mig is None:
            raise NVMLError(3)
        return [device.mig, device.mig]

    def nvmlDeviceGetMaxMigDeviceCount(self, device):  # noqa: N802, ARG002
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):  # noqa: N802
        if index not in device.slices:
            raise NVMLError(6)
        return device.slices[index]

    def nvmlDeviceGetComputeRunningProcesses(self, device):  # noqa: N802
        return device.processes

    def nvmlSystemGetProcessName(self, pid):  # noqa: N802
        if pid not in self.names:
            raise NVMLError(6)
        return self.names[pid]


def process(pid, mib):
    return SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 8])
def test_whole_gpus_in_order(count):
    library = Nvml(*(Device(f"GPU-{number}") for number in range(count)))
    reading = nvml.read(library)
    assert [gpu.uuid for gpu in reading.gpus] == [f"GPU-{number}" for number in range(count)]
    assert [gpu.memory_mib for gpu in reading.gpus] == [46068] * count
    assert reading.findings == ()
    assert library.open == 0


def test_processes_of_others_with_the_names_this_user_may_see():
    device = Device("GPU-0", processes=[process(7, 512), process(8, None)])
    (gpu,) = nvml.read(Nvml(device, names={7: "python"})).gpus
    assert gpu.processes == (GpuProcess(7, "python", 512), GpuProcess(8, "", 0))


def test_slices_stand_where_the_driver_put_them():
    slices = {
        1: Device("MIG-b", "NVIDIA A100 MIG 3g.40gb", 40192 * MIB),
        4: Device("MIG-c", "NVIDIA A100 MIG 1g.10gb", 9856 * MIB, processes=[process(9, 1)]),
    }
    cut = Device("GPU-a", mig=1, slices=slices, processes=[process(9, 1)])
    reading = nvml.read(Nvml(cut, Device("GPU-d", mig=0)))
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-a", "MIG-b", "MIG-c", "GPU-d"]
    assert [gpu.parent for gpu in reading.gpus] == [None, "GPU-a", "GPU-a", None]
    assert [len(gpu.processes) for gpu in reading.gpus] == [0, 0, 1, 0]


def test_a_gpu_that_shares_the_machines_memory_has_none_of_its_own():
    (gpu,) = nvml.read(Nvml(Device("GPU-0", total=None))).gpus
    assert gpu.memory_mib == 0


def test_loads_of_gpus_and_slices():
    slices = {2: Device("MIG-b", used=100 * MIB)}
    cut = Device("GPU-a", mig=1, slices=slices)
    busy = Device("GPU-c", busy=87, used=4096 * MIB, processes=[process(7, 512)])
    library = Nvml(cut, busy, Device("GPU-d", lost=True), names={7: "python"})
    assert nvml.read_loads(library) == {
        "GPU-a": GpuLoad(None, 0),
        "MIG-b": GpuLoad(None, 100),
        "GPU-c": GpuLoad(87.0, 4096, (GpuProcess(7, "python", 512),)),
    }
    assert library.open == 0


def test_a_lost_gpu_is_a_finding_and_its_neighbours_are_there():
    library = Nvml(Device("GPU-0"), Device("GPU-1", lost=True), Device("GPU-2"))
    reading = nvml.read(library)
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-0", "GPU-2"]
    (finding,) = reading.findings
    assert finding == "GPU 1: GPU is lost. Reboot: a GPU has fallen off the bus."


@pytest.mark.parametrize(
    ("code", "words"),
    [(9, "Driver Not Loaded. .*modprobe"), (18, "mismatch. Reboot"), (4, "/dev/")],
)
def test_a_broken_driver(code, words):
    with pytest.raises(DriverProblem, match=words):
        nvml.read(Nvml(broken=code))


def test_no_library_is_no_driver():
    with pytest.raises(NoDriver):
        nvml.read(Nvml(broken=12))


def test_the_real_library_says_the_same_here():
    try:
        reading = nvml.read()
    except (NoDriver, DriverProblem):
        return
    assert all(gpu.uuid.startswith(("GPU-", "MIG-")) for gpu in reading.gpus)


def test_the_package_has_all_that_is_asked():
    asked = {name for name in vars(Nvml) if name.startswith(("nvml", "NVML"))}
    assert {name for name in asked if not hasattr(pynvml, name)} == set()
    error = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert (error.value, str(error)) == (12, "NVML Shared Library Not Found")
