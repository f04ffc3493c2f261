from pathlib import Path

import pytest

from emulator.placement import nvidia_smi
from emulator.placement.device import DriverProblem, GpuProcess, NoDriver

RECORDED = Path(__file__).parent / "recorded"


def recorded(name):
    return (RECORDED / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("machine", "names", "memory_mib"),
    [
        ("rtx3090x1", ["NVIDIA GeForce RTX 3090"], 24576),
        ("rtx2080x2", ["NVIDIA GeForce RTX 2080"] * 2, 8192),
        ("l40sx4", ["NVIDIA L40S"] * 4, 46068),
        ("h100x8", ["NVIDIA H100 80GB HBM3"] * 8, 81559),
    ],
)
def test_whole_gpus(machine, names, memory_mib):
    gpus = nvidia_smi.parse(recorded(f"{machine}.q.xml"))
    assert [gpu.name for gpu in gpus] == names
    assert {gpu.memory_mib for gpu in gpus} == {memory_mib}
    assert [gpu.index for gpu in gpus] == list(range(len(names)))
    assert len({gpu.uuid for gpu in gpus}) == len(names)
    assert all(gpu.uuid.startswith("GPU-") and not gpu.is_slice for gpu in gpus)


def test_a_desktop_does_not_compute_and_a_script_does():
    (desktop,) = nvidia_smi.parse(recorded("rtx3090x1.q.xml"))
    idle, busy = nvidia_smi.parse(recorded("rtx2080x2.q.xml"))
    assert desktop.processes == ()
    assert idle.processes == ()
    assert busy.processes == (GpuProcess(46505, "python", 3204),)


def test_mig_slices_follow_their_gpu_with_uuids_from_the_list():
    gpus = nvidia_smi.parse(recorded("a100x4-mig.q.xml"), recorded("a100x4-mig.L.txt"))
    parent, slices, others = gpus[0], gpus[1:5], gpus[5:]
    assert parent.mig_enabled
    assert [one.uuid[:12] for one in slices] == [
        "MIG-ce861fb0",
        "MIG-a45882f0",
        "MIG-f00d722c",
        "MIG-930574a9",
    ]
    assert {one.parent for one in slices} == {parent.uuid}
    assert {one.name for one in slices} == {"NVIDIA A100-SXM4-80GB MIG 1g.20gb"}
    assert {one.memory_mib for one in slices} == {19968}
    assert [one.mig_enabled for one in others] == [False] * 3
    assert [gpu.index for gpu in gpus] == list(range(8))


def test_a_process_is_on_its_slice_alone():
    gpus = nvidia_smi.parse(recorded("a100x4-mig.q.xml"), recorded("a100x4-mig.L.txt"))
    assert [gpu.uuid[:12] for gpu in gpus if gpu.processes] == ["MIG-a45882f0"]


def test_slices_without_a_name_cannot_be_given_out():
    gpus = nvidia_smi.parse(recorded("a100x4-mig.q.xml"))
    assert not any(gpu.is_slice for gpu in gpus)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ("mismatch.txt", "Reboot, or unload and load"),
        ("not-loaded.txt", "modprobe nvidia"),
        ("lost.txt", "dmesg"),
    ],
)
def test_a_broken_driver_is_a_problem_with_what_mends_it(answer, advice):
    with pytest.raises(DriverProblem, match=advice):
        nvidia_smi.parse(recorded(answer))


def install(directory, monkeypatch, script):
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_the_program_is_asked_for_both_answers(tmp_path, monkeypatch):
    install(
        tmp_path,
        monkeypatch,
        f'case "$1" in\n-L) cat {RECORDED}/a100x4-mig.L.txt ;;\n'
        f"*) cat {RECORDED}/a100x4-mig.q.xml ;;\nesac",
    )
    reading = nvidia_smi.read()
    assert len(reading.gpus) == 8
    assert reading.findings == ()


def test_no_program_is_no_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoDriver):
        nvidia_smi.read()


def test_a_driver_without_a_gpu_is_no_driver(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, f"cat {RECORDED}/none.txt; exit 6")
    with pytest.raises(NoDriver):
        nvidia_smi.read()


@pytest.mark.parametrize("code", [0, 18])
def test_a_failing_program_is_a_problem(tmp_path, monkeypatch, code):
    install(tmp_path, monkeypatch, f"cat {RECORDED}/mismatch.txt; exit {code}")
    with pytest.raises(DriverProblem, match="version mismatch NVML library version"):
        nvidia_smi.read()


def test_a_silent_program_is_a_problem(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(DriverProblem, match="printed nothing"):
        nvidia_smi.read()
