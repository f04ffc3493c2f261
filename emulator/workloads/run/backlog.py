"""Jobs that wait as rows of the database: what they cost in memory is an entry here.

The first jobs in line wait in threads of their own for what the machine gives back, in the queue of
placement/gpu_capacity.py with its back-fill. All later ones wait here until one of those has begun.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from emulator.model.workload import WorkloadId
from emulator.workloads.run.timers import Timer


@dataclass(order=True)
class Entry:
    """A job in the backlog; in the order in which jobs leave it."""

    before: int
    """The negative priority."""
    number: int
    key: WorkloadId = field(compare=False)
    timers: list[Timer] = field(compare=False, default_factory=list)
    gone: bool = field(compare=False, default=False)


class Backlog:
    """Higher priorities first, then in the order of arrival. Not safe for threads."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._entries: dict[WorkloadId, Entry] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: WorkloadId) -> bool:
        return key in self._entries

    def add(self, key: WorkloadId, priority: int) -> Entry:
        """Let a job wait at the end of those of its priority."""
        self._numbers += 1
        entry = Entry(-priority, self._numbers, key)
        self._entries[key] = entry
        heapq.heappush(self._heap, entry)
        return entry

    def remove(self, key: WorkloadId) -> bool:
        """Take a job out; False if it is not here."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        entry.gone = True  # it leaves the heap when its turn comes
        _cancel(entry)
        return True

    def line(self) -> list[WorkloadId]:
        """All jobs in the order in which they leave."""
        return [entry.key for entry in sorted(self._entries.values())]

    def pop(self) -> Entry | None:
        """The job whose turn it is; None if there is none."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            if not entry.gone:
                del self._entries[entry.key]
                _cancel(entry)
                return entry
        return None


def _cancel(entry: Entry) -> None:
    for timer in entry.timers:
        timer.cancel()
    entry.timers.clear()
