"""The filter, run by a small interpreter of its language."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from struct import iter_unpack, pack, unpack_from

import pytest

from emulator.drivers.process.seccomp import ARCHITECTURES, seccomp_filter

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
READ = {"x86_64": 0, "aarch64": 63}
THREAD = 0x3D_0F00
"""What the C library passes to clone for a thread."""


def verdict(machine: str, number: int, argument: int = 0, audit: int | None = None) -> int:
    """The error that a call ends with; 0 when it is allowed."""
    program = list(iter_unpack("=HBBI", seccomp_filter(machine)))
    audit = ARCHITECTURES[machine].audit if audit is None else audit
    data = pack("=IIQQ5Q", number, audit, 0, argument, 0, 0, 0, 0, 0)
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            (loaded,) = unpack_from("=I", data, value)
        elif code == 0x06:
            assert value == 0x7FFF0000 or value >> 16 == 5
            return int(value & 0xFFFF) if value != 0x7FFF0000 else 0
        else:
            true = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            at += if_true if true else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_listed_calls_are_refused_and_others_are_not(machine: str) -> None:
    calls = ARCHITECTURES[machine].calls
    plain = {number for name, number in calls.items() if name not in ("clone", "clone3", "socket")}
    for number in range(600):
        expected = errno.EPERM if number in plain else 0
        expected = errno.ENOSYS if number == calls["clone3"] else expected
        assert verdict(machine, number) == expected, number
    assert verdict(machine, READ[machine]) == 0


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_threads_and_processes_may_be_made_but_no_namespaces(machine: str) -> None:
    clone = ARCHITECTURES[machine].calls["clone"]
    assert verdict(machine, clone, 17) == 0  # fork: SIGCHLD
    assert verdict(machine, clone, THREAD) == 0
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, clone, flag | 17) == errno.EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_sockets_but_those_to_the_hypervisor(machine: str) -> None:
    call = ARCHITECTURES[machine].calls["socket"]
    for family in (1, 2, 10, 16):  # UNIX, INET, INET6, NETLINK
        assert verdict(machine, call, family) == 0
    assert verdict(machine, call, 40) == errno.EPERM


def test_calls_of_other_architectures_do_not_exist() -> None:
    assert verdict("x86_64", 4, audit=0x40000003) == errno.ENOSYS  # i386
    assert verdict("x86_64", 0x40000000) == errno.ENOSYS  # x32
    assert verdict("aarch64", 4, audit=0x40000028) == errno.ENOSYS  # arm
    assert seccomp_filter("riscv64") == b""


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} (of linux-libc-dev) is not installed")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in defined}
    calls = ARCHITECTURES[machine].calls
    assert {name: numbers.get(name) for name in calls} == dict(calls)
