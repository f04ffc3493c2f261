"""How many cores and how much memory this process may use: affinity and cgroup counted in."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
BYTES_PER_MIB = 1024 * 1024
# cgroup v1 has no word for "no limit": it shows the largest page-aligned number instead.
_V1_UNLIMITED = 1 << 60


@dataclass(frozen=True)
class Machine:
    """What jobs share besides GPUs."""

    cores: int
    """Hardware threads, as a vCPU is one."""
    memory_mib: int


def this_machine(root: Path = CGROUP_ROOT, proc: Path = Path("/proc")) -> Machine:
    """Read the limits of this process: a container's, a service's slice's, or the machine's."""
    groups = cgroup_directories(root, _read(proc / "self" / "cgroup") or "")
    quotas = [quota for group in groups if (quota := cpu_quota(group)) is not None]
    limits = [limit for group in groups if (limit := memory_limit(group)) is not None]
    cores = min([_allowed_cores(), *(math.ceil(quota) for quota in quotas)])
    memory = min([meminfo_total(_read(proc / "meminfo") or ""), *limits])
    return Machine(max(1, cores), memory // BYTES_PER_MIB)


def cgroup_directories(root: Path, membership: str) -> tuple[Path, ...]:
    """The cgroups that a process is in, with their parents: each of them can set a limit.

    `membership` is the content of /proc/self/cgroup. Inside a container the path it
    names may lie outside what is mounted; the mount's root stands for it then.
    """
    found = [root]
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        base = root / controllers if controllers else root
        if controllers not in ("", "memory", "cpu,cpuacct", "cpu") or ".." in Path(path).parts:
            continue
        group = base / path.lstrip("/")
        found.extend(part for part in (group, *group.parents) if part.is_relative_to(base))
    return tuple(dict.fromkeys(group for group in found if group.is_dir()))


def cpu_quota(group: Path) -> float | None:
    """Cores that a cgroup (v2, then v1) may use at once; None without a limit."""
    text = _read(group / "cpu.max") or " ".join(
        _read(group / name) or "max" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    quota, period = text.split()
    # "max" and -1 are how v2 and v1 say that there is no limit.
    return None if "max" in (quota, period) or int(quota) <= 0 else int(quota) / int(period)


def memory_limit(group: Path) -> int | None:
    """Bytes that a cgroup (v2, then v1) may use; None without a limit."""
    text = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
    if not text or text == "max" or int(text) >= _V1_UNLIMITED:
        return None
    return int(text)


def meminfo_total(meminfo: str) -> int:
    """MemTotal of /proc/meminfo in bytes; 0 where it says nothing."""
    totals = (line.split()[1] for line in meminfo.splitlines() if line.startswith("MemTotal:"))
    return int(next(totals, 0)) * 1024


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS pins no process to a core.


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return None
