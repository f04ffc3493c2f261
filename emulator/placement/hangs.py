"""What ranks say of a collective that does not come to its end. Pure.

PyTorch gives up on a collective by itself (10 minutes for NCCL, 30 for gloo, or what
`init_process_group` was told) and says so in lines whose forms are read here: those of
ProcessGroupNCCL's watchdog and heartbeat monitor (PyTorch 2.0 to 2.13) and of gloo's
transport (measured with PyTorch 2.13).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MARKS = (b"imed out", b"collective operation timeout")
"""A line without any of them says nothing of a hang."""

_NCCL = re.compile(
    r"Rank (?P<rank>\d+)\] Watchdog caught collective operation timeout: "
    r"WorkNCCL\(SeqNum=(?P<number>\d+), OpType=(?P<operation>\w+),"
    r".*?Timeout\(ms\)=(?P<limit>\d+)"
)
_HEARTBEAT = re.compile(r"Rank (?P<rank>\d+)\] Heartbeat monitor timed out")
_GLOO = re.compile(
    r"(?:\[rank(?P<rank>\d+)\].*?)?Timed out waiting (?P<limit>\d+)ms for (?P<what>send|recv)"
)


@dataclass(frozen=True)
class Hang:
    """A rank waits for its peers in vain."""

    library: str
    """NCCL or gloo."""
    rank: int | None
    """None where the line does not say."""
    waits: str
    """For what, and for how long."""


def parse_hang(line: str) -> Hang | None:
    """The hang that a line tells of; None for any other line."""
    if match := _NCCL.search(line):
        limit = _seconds(match["limit"])
        return Hang(
            "NCCL",
            int(match["rank"]),
            f"{match['operation']} number {match['number']} did not end within {limit}",
        )
    if match := _HEARTBEAT.search(line):
        return Hang("NCCL", int(match["rank"]), "its watchdog thread does not answer any more")
    if match := _GLOO.search(line):
        rank = None if match["rank"] is None else int(match["rank"])
        limit = _seconds(match["limit"])
        return Hang("gloo", rank, f"nothing could be {_DONE[match['what']]} within {limit}")
    return None


_DONE = {"send": "sent", "recv": "received"}


def _seconds(milliseconds: str) -> str:
    return f"{int(milliseconds) / 1000:g} s"
