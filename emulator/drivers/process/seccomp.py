"""The system calls that a sandbox is refused, as a seccomp filter for `bwrap --seccomp`.

The list is what Docker's default profile (moby, profiles/seccomp) refuses a container without
extra capabilities, with two differences: NUMA policies stay allowed, since they only concern
the caller's own memory and PyTorch's data loading gains from them; and 32-bit programs are
refused altogether, since their calls have other numbers.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from struct import pack

# linux/bpf_common.h and linux/seccomp.h
_LOAD = 0x20
"""BPF_LD | BPF_W | BPF_ABS: a word of struct seccomp_data."""
_EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""The first argument's low half: both architectures are little-endian."""

_NEW_NAMESPACES = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)."""
_AF_VSOCK = 40
"""Leads to the hypervisor of a virtual machine."""
_X32 = 0x4000_0000
"""Set in the numbers of x86_64's other calls (asm/unistd.h)."""


_CALLS: Mapping[str, tuple[int, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
"""Name -> its number on x86_64 and on aarch64 (asm/unistd.h)."""


@dataclass(frozen=True)
class _Architecture:
    audit: int
    """AUDIT_ARCH_* of linux/audit.h"""
    calls: Mapping[str, int]


_X86_64 = _Architecture(0xC000_003E, {name: number for name, (number, _) in _CALLS.items()})
_AARCH64 = _Architecture(
    0xC000_00B7, {name: number for name, (_, number) in _CALLS.items() if number is not None}
)
ARCHITECTURES: Mapping[str, _Architecture] = {"x86_64": _X86_64, "aarch64": _AARCH64}
"""By what `uname -m` calls them."""

_SPECIAL = ("clone", "clone3", "socket")
"""Those that depend on an argument, and the one whose arguments no filter can read."""


def seccomp_filter(machine: str | None = None) -> bytes:
    """The program for this machine, as the kernel reads it; empty for other architectures."""
    architecture = ARCHITECTURES.get(machine or platform.machine())
    return b"".join(_program(architecture)) if architecture else b""


@contextmanager
def open_filter() -> Iterator[int | None]:
    """A descriptor for `--seccomp`, to be inherited; None where there is no filter."""
    program = seccomp_filter()
    if not program:
        yield None
        return
    with os.fdopen(os.memfd_create("seccomp-filter", os.MFD_CLOEXEC), "w+b") as file:
        file.write(program)
        file.seek(0)
        yield file.fileno()


def _program(architecture: _Architecture) -> Iterator[bytes]:
    calls = architecture.calls
    yield _statement(_LOAD, _ARCHITECTURE_AT)
    yield from _unless(_EQUAL, architecture.audit, _refusal(errno.ENOSYS))
    yield _statement(_LOAD, _NUMBER_AT)
    if architecture is _X86_64:
        yield from _where(_AT_LEAST, _X32, _refusal(errno.ENOSYS))
    for name, number in calls.items():
        if name not in _SPECIAL:
            yield from _where(_EQUAL, number, _refusal(errno.EPERM))
    # The C library falls back on clone, whose flags are no pointer.
    yield from _where(_EQUAL, calls["clone3"], _refusal(errno.ENOSYS))
    for name, test, value in (
        ("clone", _ANY_BIT, _NEW_NAMESPACES),
        ("socket", _EQUAL, _AF_VSOCK),
    ):
        body = (
            _statement(_LOAD, _FIRST_ARGUMENT_AT),
            *_where(test, value, _refusal(errno.EPERM)),
            _statement(_RETURN, _ALLOW),
        )
        yield _statement(_EQUAL, calls[name], 0, len(body))
        yield from body
    yield _statement(_RETURN, _ALLOW)


def _where(test: int, value: int, then: bytes) -> Iterator[bytes]:
    yield _statement(test, value, 0, 1)
    yield then


def _unless(test: int, value: int, then: bytes) -> Iterator[bytes]:
    yield _statement(test, value, 1, 0)
    yield then


def _refusal(error: int) -> bytes:
    return _statement(_RETURN, _ERRNO | error)


def _statement(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter"""
    return pack("=HBBI", code, if_true, if_false, value)
