import os

import pytest

from emulator.placement.machine import (
    cgroup_directories,
    cpu_quota,
    meminfo_total,
    memory_limit,
    this_machine,
)

GIB = 1024**3


def write(directory, **files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu__max": "150000 100000\n"}, 1.5),
        ({"cpu__max": "max 100000\n"}, None),
        ({"cpu__cfs_quota_us": "400000\n", "cpu__cfs_period_us": "100000\n"}, 4.0),
        ({"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_cpu_quota_of_both_cgroup_versions(tmp_path, files, cores):
    assert cpu_quota(write(tmp_path, **files)) == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory__max": f"{8 * GIB}\n"}, 8 * GIB),
        ({"memory__max": "max\n"}, None),
        ({"memory__limit_in_bytes": f"{4 * GIB}\n"}, 4 * GIB),
        ({"memory__limit_in_bytes": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_memory_limit_of_both_cgroup_versions(tmp_path, files, limit):
    assert memory_limit(write(tmp_path, **files)) == limit


def test_meminfo():
    assert meminfo_total("MemFree: 1 kB\nMemTotal:       24683200 kB\n") == 24683200 * 1024
    assert meminfo_total("") == 0


def test_a_parents_limit_counts_and_a_v1_controller_is_a_directory_of_its_own(tmp_path):
    write(tmp_path / "user.slice" / "session")
    write(tmp_path / "memory" / "job")
    found = cgroup_directories(
        tmp_path, "4:memory:/job\n1:name=systemd:/\n0::/user.slice/session\n"
    )
    assert tmp_path / "user.slice" in found
    assert tmp_path / "user.slice" / "session" in found
    assert tmp_path / "memory" / "job" in found


def test_a_path_from_outside_the_container_falls_back_to_the_mount(tmp_path):
    assert cgroup_directories(tmp_path, "0::/../../docker/abc\n") == (tmp_path,)


def test_the_smallest_limit_wins(tmp_path):
    root = write(tmp_path / "cgroup", cpu__max="max 100000", memory__max="max")
    write(root / "slice", cpu__max="50000 100000", memory__max=str(2 * GIB))
    write(root / "slice" / "service", cpu__max="max 100000", memory__max=str(4 * GIB))
    proc = write(tmp_path / "proc", meminfo="MemTotal: 67108864 kB\n")
    write(proc / "self", cgroup="0::/slice/service\n")
    machine = this_machine(root, proc)
    assert (machine.cores, machine.memory_mib) == (1, 2048)


def test_without_cgroups_affinity_and_memory_count(tmp_path):
    proc = write(tmp_path / "proc", meminfo="MemTotal: 1048576 kB\n")
    machine = this_machine(tmp_path / "none", proc)
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.memory_mib == 1024
