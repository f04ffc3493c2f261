"""How busy this machine is, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MachineLoad:
    """What all programs of the machine use together."""

    cpu_percent: float
    """Of all its processors, since the look before."""
    memory_used_mib: int
    """Without what the kernel can give back at once."""
    memory_total_mib: int


class LoadMeter:
    """Each `read` tells of the time since the one before."""

    def __init__(self, proc: Path = Path("/proc")):
        self._proc = proc
        self._before = self._times()

    def read(self) -> MachineLoad:
        """Zeros where /proc does not tell."""
        before, self._before = self._before, self._times()
        busy, total = (now - then for now, then in zip(self._before, before, strict=True))
        memory = _fields(_text(self._proc / "meminfo"))
        all_of_it = memory.get("MemTotal", 0)
        return MachineLoad(
            cpu_percent=100 * busy / total if total > 0 else 0.0,
            memory_used_mib=(all_of_it - memory.get("MemAvailable", all_of_it)) // 1024,
            memory_total_mib=all_of_it // 1024,
        )

    def _times(self) -> tuple[int, int]:
        """Ticks of work, and all ticks, since the start of the machine."""
        first = _text(self._proc / "stat").partition("\n")[0].split()
        if first[:1] != ["cpu"]:
            return 0, 0
        # user nice system idle iowait irq softirq steal; what follows is counted in user already.
        ticks = [int(number) for number in first[1:9]]
        return sum(ticks) - sum(ticks[3:5]), sum(ticks)


def _fields(meminfo: str) -> dict[str, int]:
    """KiB by name."""
    rows = (line.split() for line in meminfo.splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) >= 2}


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""
