import json
from pathlib import Path

import pytest

from emulator.model.errors import SetupError
from emulator.placement import nvidia_smi
from emulator.placement.device import DriverProblem, Gpu, NoDriver, Reading
from emulator.placement.gpus import Inventory, cdi_gpus, find_gpus, schedulable, surveyor

RECORDED = Path(__file__).parent / "recorded"
GPU = Gpu("GPU-0", "NVIDIA L40S", 46068)
CDI = ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-5", "nvidia.com/gpu=all", "vendor.com/net=eth1"]


def nothing():
    raise NoDriver("not here")


def broken():
    raise DriverProblem("Driver/library version mismatch. Reboot.")


def test_the_first_reader_that_answers_wins():
    inventory = find_gpus(
        cdi_devices=CDI,
        readers={"nvml": nothing, "nvidia-smi": lambda: Reading((GPU,), ("one lost",))},
    )
    assert inventory.gpus == (GPU,)
    assert inventory.source == "nvidia-smi"
    assert inventory.findings == ("one lost",)
    assert not inventory.rehearsal


def test_a_broken_driver_is_told_and_the_next_is_asked():
    inventory = find_gpus(cdi_devices=CDI, readers={"nvml": broken, "nvidia-smi": broken})
    assert inventory.source == "cdi"
    assert [gpu.uuid for gpu in inventory.gpus] == ["GPU-5"]
    assert inventory.findings == (
        "nvml: Driver/library version mismatch. Reboot.",
        "nvidia-smi: Driver/library version mismatch. Reboot.",
    )


def test_a_machine_without_gpus_has_nothing_wrong():
    inventory = find_gpus(readers={"nvml": nothing, "nvidia-smi": nothing})
    assert inventory.gpus == ()
    assert inventory.findings == ()
    assert inventory.source == "none"


def test_a_cut_gpu_gives_its_slices_and_one_in_mig_mode_without_slices_nothing():
    gpus = nvidia_smi.parse(
        (RECORDED / "a100x4-mig.q.xml").read_text(), (RECORDED / "a100x4-mig.L.txt").read_text()
    )
    given = schedulable(gpus)
    assert [gpu.uuid[:4] for gpu in given] == ["MIG-"] * 4 + ["GPU-"] * 3
    assert schedulable(gpus[:1]) == ()


def test_a_driver_on_a_machine_without_a_gpu_is_no_broken_one(tmp_path):
    def look():
        return find_gpus(readers={"nvml": broken}, environment={}, pci=tmp_path)

    assert look().findings  # nobody tells what is on the bus
    (tmp_path / "0000:00:02.0").mkdir()
    (tmp_path / "0000:00:02.0" / "vendor").write_text("0x8086\n")
    assert look() == Inventory()
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    assert look().findings


def test_the_emulators_own_visible_devices_hold_for_jobs():
    gpus = (GPU, Gpu("GPU-1", "NVIDIA L40S", 46068))
    for names, left in (("1", ["GPU-1"]), ("", []), ("0,1", ["GPU-0", "GPU-1"])):
        inventory = find_gpus(
            readers={"nvml": lambda: Reading(gpus)}, environment={"CUDA_VISIBLE_DEVICES": names}
        )
        assert [gpu.uuid for gpu in inventory.gpus] == left
        assert inventory.hidden == 2 - len(left)


def test_cdi_names_devices_by_uuid_once():
    gpus = cdi_gpus([*CDI, "nvidia.com/gpu=GPU-5", "nvidia.com/gpu=MIG-7", "nvidia.com/gpu=0:1"])
    assert [(gpu.uuid, gpu.is_slice) for gpu in gpus] == [("GPU-5", False), ("MIG-7", True)]


def test_a_file_stands_for_the_machine(tmp_path):
    file = tmp_path / "gpus.json"
    entries = [
        {"uuid": "GPU-a", "name": "NVIDIA H100", "memory_mib": 81920},
        {"uuid": "MIG-b", "name": "NVIDIA A100 MIG 1g.20gb", "memory_mib": 19968},
    ]
    file.write_text(json.dumps({"gpus": entries}))
    inventory = find_gpus(file, readers={"nvml": broken})
    assert inventory.rehearsal
    assert [(gpu.uuid, gpu.is_slice) for gpu in inventory.gpus] == [
        ("GPU-a", False),
        ("MIG-b", True),
    ]
    look = surveyor(file)
    file.unlink()
    assert look() == inventory


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"gpus": 3}',
        '{"gpus": [{"uuid": "GPU-a"}]}',
        '{"gpus": [{"uuid": "GPU-a", "name": "x", "memory_mib": "much"}]}',
        json.dumps({"gpus": [{"uuid": "GPU-a", "name": "twice", "memory_mib": 1}] * 2}),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text):
    file = tmp_path / "gpus.json"
    file.write_text(text)
    with pytest.raises(SetupError, match="inventory"):
        find_gpus(file)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SetupError, match="cannot be read"):
        find_gpus(tmp_path / "none.json")
