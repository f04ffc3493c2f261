"""What the doctor says of GPUs, and how it reads its all-reduce."""

from __future__ import annotations

from emulator.cli.doctor_checks import judge_engine, judge_gpus
from emulator.cli.gpu_test import Outcome, Trial, failure_of, read_outcome, trials
from emulator.model.errors import SetupError
from emulator.placement.device import Gpu, GpuProcess
from emulator.placement.gpus import Inventory

L40S = Gpu("GPU-a", "NVIDIA L40S", 46068)
TRIAL = Trial("network", "nccl", 100, "ml.local.1gpu")


def test_a_machine_without_gpus_is_fine() -> None:
    assert judge_gpus(Inventory(), use_busy=False).ok


def test_gpus_that_the_emulator_was_not_left_are_told() -> None:
    some = judge_gpus(Inventory((L40S,), source="nvml", hidden=3), use_busy=False)
    assert some.detail.endswith("CUDA_VISIBLE_DEVICES hides 3 more")
    none = judge_gpus(Inventory(source="nvml", hidden=4), use_busy=False)
    assert none.detail == "CUDA_VISIBLE_DEVICES leaves no GPU: jobs run on the CPU"


def test_a_broken_driver_is_told_with_its_reason() -> None:
    found = judge_gpus(Inventory(findings=("nvml: Driver/library version mismatch",)), False)
    assert (found.ok, found.detail) == (False, "nvml: Driver/library version mismatch")


def test_a_gpu_of_somebody_else_is_named_unless_it_is_given_out() -> None:
    busy = Gpu("GPU-b", "NVIDIA L40S", 46068, processes=(GpuProcess(7, "blender"),))
    inventory = Inventory((L40S, busy), source="nvml")
    found = judge_gpus(inventory, use_busy=False)
    assert not found.ok
    assert "1 of 2 kept from jobs by blender (pid 7)" in found.detail
    assert judge_gpus(inventory, use_busy=True).ok


def test_a_device_that_is_missing_is_told_with_what_makes_it() -> None:
    trouble = SetupError("/dev/nvidia-uvm is missing.", "As root: modprobe nvidia-uvm")
    found = judge_gpus(Inventory((L40S,), source="nvml"), False, trouble)
    assert not found.ok
    assert found.detail == "NVIDIA L40S (46068 MiB); /dev/nvidia-uvm is missing."
    assert found.remedy == "As root: modprobe nvidia-uvm"


def test_a_rehearsal_is_not_mistaken_for_gpus() -> None:
    assert "no device" in judge_gpus(Inventory((L40S,), rehearsal=True), False).detail


def test_an_engine_needs_cdi_or_nvidias_runtime() -> None:
    cdi = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=GPU-a"}]}
    assert judge_engine(cdi, has_gpus=True, needed=True).ok
    assert judge_engine({"Runtimes": {"nvidia": {}}}, has_gpus=True, needed=True).ok
    missing = judge_engine({"Runtimes": {"runc": {}}}, has_gpus=True, needed=True)
    assert (missing.ok, missing.needed) == (False, True)
    assert "nvidia-ctk runtime configure" in missing.remedy
    assert judge_engine({"Runtimes": {"runc": {}}}, has_gpus=False, needed=True).ok


def test_which_presets_can_be_measured() -> None:
    assert [trial.name for trial in trials([L40S] * 4)] == ["network", "shm", "fast"]
    assert [trial.name for trial in trials([L40S])] == ["shared-gpu"]
    mig = Gpu("MIG-a", "NVIDIA A100 MIG 3g.20gb", 19968, parent="GPU-a")
    assert [trial.name for trial in trials([mig, mig])] == ["shared-gpu"]
    assert [trial.backend for trial in trials([])] == ["gloo"]


def test_a_result_is_read_with_its_transport() -> None:
    lines = [
        "NCCL: algo-1 and algo-2 talk through sockets (NET).",
        'gpu-test {"seconds": 0.05, "gigabytes_per_second": 2.1}',
    ]
    assert read_outcome(TRIAL, lines, "") == Outcome("network", 2.1, "sockets (NET)")
    assert read_outcome(TRIAL, lines, "it broke").problem == "it broke"
    assert read_outcome(TRIAL, [], "").problem == "no rank told a result"


def test_a_job_that_failed_is_told_with_its_last_words() -> None:
    end = {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: , exit code: 1"}
    lines = ["Traceback …", "RuntimeError: no NCCL", ""]
    assert failure_of(end, lines) == "AlgorithmError: , exit code: 1 (RuntimeError: no NCCL)"
    assert failure_of({"TrainingJobStatus": "Stopped"}, []) == "Stopped"
    assert failure_of({"TrainingJobStatus": "Completed"}, lines) == ""
