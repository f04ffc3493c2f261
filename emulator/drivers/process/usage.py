"""What the processes of an instance use, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from emulator.drivers.base import Usage

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat, counted behind the command's name (proc_pid_stat(5)).
_PARENT, _CPU, _RSS = 1, slice(11, 15), 21


class _Process(NamedTuple):
    pid: int
    parent: int
    cpu_seconds: float
    resident_bytes: int


def usage_of_trees(roots: Mapping[str, int]) -> dict[str, Usage]:
    """What each tree of processes uses, by the key of its root; ended roots are left out."""
    processes = {process.pid: process for process in _all()}
    children: dict[int, list[_Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    limit = os.sysconf("SC_PHYS_PAGES") * _PAGE
    found = {}
    for key, root in roots.items():
        if root in processes:
            tree = list(_tree(processes[root], children))
            # Each counts those of its children that have ended and were waited for.
            cpu = sum(process.cpu_seconds for process in tree)
            found[key] = Usage(cpu, sum(map(_memory, tree)), limit)
    return found


def _tree(root: _Process, children: Mapping[int, list[_Process]]) -> Iterator[_Process]:
    yield root
    for child in children.get(root.pid, ()):
        yield from _tree(child, children)


def _all() -> Iterator[_Process]:
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:  # it has ended in between
            continue
        fields = text.rpartition(")")[2].split()
        cpu = sum(map(int, fields[_CPU])) / _TICKS
        yield _Process(int(entry.name), int(fields[_PARENT]), cpu, int(fields[_RSS]) * _PAGE)


def _memory(process: _Process) -> int:
    """Its share of what it uses, as workers that were forked share most of it."""
    try:
        text = (_PROC / str(process.pid) / "smaps_rollup").read_text()
    except OSError:  # not everybody may look
        return process.resident_bytes
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return process.resident_bytes
