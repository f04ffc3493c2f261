"""What a container uses, from the engine's statistics: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.drivers.base import Usage

_NANOSECONDS = 1_000_000_000


def usage_in(stats: Mapping[str, Any]) -> Usage | None:
    """Read an answer of the engine's stats API; None for a container that does not run.

    File cache that can be dropped at any time is not counted, as `docker stats` does.
    """
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    details = memory.get("stats", {})
    # The first is cgroup v1's name, the second v2's.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        cpu_seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / _NANOSECONDS,
        memory_bytes=max(memory["usage"] - cache, 0),
        memory_limit=memory["limit"],
    )
