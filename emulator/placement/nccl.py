"""How NCCL talks between the instances of a job: asked for by preset, read from its own log.

A preset is environment for every instance (and, for two of them, shared directories that the
runtime mounts). What NCCL then chose stands in its INFO lines, one a channel:
`algo-1:57:81 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0`. The forms read
here are those of NCCL 2.4 to 2.30 (its transport/net.cc, shm.cc and p2p.cc).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from emulator.model.errors import ClientError
from emulator.model.plan import Sharing
from emulator.model.workload import WorkloadSpec

Preset = Literal["network", "shm", "fast", "shared-gpu"]
Transport = Literal["P2P", "SHM", "NET"]

PRESETS: tuple[str, ...] = get_args(Preset)
PRESET_VARIABLE = "EMULATOR_NCCL_PRESET"
"""In the request's Environment."""
PRESET_TAG = "emulator:nccl-preset"

_WRITER = re.compile(
    r"(?P<process>(?P<host>[^\s:]+):\d+):(?P<thread>\d+) \[\d+\] NCCL INFO (?P<text>.*)"
)
_MEMBER = re.compile(r"\brank (?P<rank>\d+) nranks (?P<size>\d+) (?:.*\bcommId (?P<comm>\w+))?")
_CHANNEL = re.compile(
    r"(?:Channel|Ring|Tree) \d+(?:/\d+)? : (?P<source>\d+)(?:\[\w+\])? "
    r"-> (?P<target>\d+)(?:\[\w+\])? (?:\[(?:send|receive)\] )?via (?P<via>\S.*?)\s*$"
)
_OLD_SHM = "direct shared memory"
"""NCCL's words for SHM before 2.7."""
_FLIGHT_RECORDER: Mapping[str, str] = {
    "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": "/opt/ml/output/data/nccl_trace_rank_",
}
"""PyTorch's account of the last collectives of each rank, written when one times out, where
output.tar.gz takes it along (PyTorch's flight recorder tutorial)."""
_WANTED: Mapping[Preset, frozenset[Transport]] = {
    "network": frozenset({"NET"}),
    "shm": frozenset({"SHM"}),
    "fast": frozenset({"P2P"}),
    "shared-gpu": frozenset({"NET"}),
}


def choose_preset(default: Preset, spec: WorkloadSpec, gpus_shared: bool) -> Preset:
    """The job's preset: from its Environment, its tag, or the setting.

    Instances that share a GPU always get `shared-gpu`: NCCL takes two ranks on one device
    of what it believes to be one host for a mistake and stops. Raises ClientError for a
    preset that does not exist.
    """
    wish = spec.environment.get(PRESET_VARIABLE) or spec.tags.get(PRESET_TAG) or default
    for preset in get_args(Preset):
        if wish == preset:
            return "shared-gpu" if gpus_shared else preset
    raise ClientError(f"There is no NCCL preset {wish}. Choose one of {', '.join(PRESETS)}.")


def sharing(preset: Preset) -> Sharing:
    """The directories and devices that instances share under a preset."""
    return Sharing(
        dev_shm=preset in ("shm", "fast"), tmp=preset == "fast", all_gpus_visible=preset == "fast"
    )


def environment(preset: Preset, job: str, host: str, gpus: Collection[str]) -> dict[str, str]:
    """The variables of one instance; the request's own Environment goes over them.

    `gpus` are the UUIDs of the instance's own GPUs; without any there is no NCCL to tell.
    """
    if not gpus:
        return {}
    # NCCL takes processes with the same host id for neighbours, whatever their hostname.
    together = {"NCCL_HOSTID": job}
    apart = {
        "NCCL_HOSTID": f"{job}-{host}",
        "NCCL_NET": "Socket",
        "NCCL_IB_DISABLE": "1",
        "NCCL_MNNVL_ENABLE": "0",
    }
    variables: dict[Preset, dict[str, str]] = {
        "network": apart,
        "shared-gpu": apart,
        # Without peer to peer SHM is what is left. cuMem on the host side would need
        # get_mempolicy, which Docker's seccomp profile forbids.
        "shm": {**together, "NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0"},
        "fast": {
            **together,
            "NCCL_CUMEM_ENABLE": "1",
            # Abstract sockets end at the network namespace; files in a shared /tmp do not.
            "NCCL_IPC_USE_ABSTRACT_SOCKET": "0",
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        },
    }
    return {"NCCL_DEBUG": "INFO", **_FLIGHT_RECORDER, **variables[preset]}


@dataclass(frozen=True, order=True)
class Link:
    """What one rank sends to another through, as NCCL's log says."""

    source: int
    target: int
    transport: Transport
    detail: str
    """NET/Socket/0, P2P/CUMEM, SHM/direct/direct …"""


def parse_link(text: str) -> Link | None:
    """The link that a line tells of; None for any other line."""
    match = _CHANNEL.search(text)
    if match is None:
        return None
    detail = match["via"]
    if detail.startswith(_OLD_SHM):
        return Link(int(match["source"]), int(match["target"]), "SHM", detail)
    for transport in get_args(Transport):
        if detail.startswith(transport):
            return Link(int(match["source"]), int(match["target"]), transport, detail)
    return None


class Transports:
    """Collects what NCCL writes in one job, line by line and in any mixture of instances.

    Ranks are those of a communicator, and a job can make several (a group for each axis of
    parallelism). A thread's links belong to the communicator it set up last, another
    thread's to the largest one of its process.
    """

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, int], str] = {}
        """By communicator and rank."""
        self._of_thread: dict[str, str] = {}
        self._of_process: dict[str, tuple[int, str]] = {}
        """The size and name of the largest communicator."""
        self._links: set[tuple[str, Link]] = set()

    def read(self, line: str) -> bool:
        """Take in a line of a job's log; True if it told of a link not known before."""
        writer = _WRITER.search(line)
        if writer is None:
            return False
        process, thread = writer["process"], f"{writer['process']}:{writer['thread']}"
        if member := _MEMBER.search(writer["text"]):
            comm = member["comm"] or ""
            self._hosts[comm, int(member["rank"])] = writer["host"]
            self._of_thread[thread] = comm
            largest = max(self._of_process.get(process, (0, "")), (int(member["size"]), comm))
            self._of_process[process] = largest
            return False
        link = parse_link(writer["text"])
        if link is None:
            return False
        comm = self._of_thread.get(thread) or self._of_process.get(process, (0, ""))[1]
        new = (comm, link) not in self._links
        self._links.add((comm, link))
        return new

    @property
    def links(self) -> tuple[Link, ...]:
        """Every kind of link between every two ranks."""
        return tuple(sorted({link for _, link in self._links}))

    def between_hosts(self) -> Mapping[tuple[str, str], frozenset[Transport]]:
        """What each two instances talk through, in both directions together."""
        found: dict[tuple[str, str], frozenset[Transport]] = {}
        for comm, link in self._links:
            one, other = (self._hosts.get((comm, rank)) for rank in (link.source, link.target))
            if one is None or other is None or one == other:
                continue
            pair = (min(one, other), max(one, other))
            found[pair] = found.get(pair, frozenset()) | {link.transport}
        return found

    def through(self, host: str | None = None, rank: int | None = None) -> str:
        """Words for what a host's rank (or all of a host's, or all) talk to others through."""
        kinds = {
            link.transport
            for comm, link in self._links
            if rank in (None, link.source, link.target)
            and host in (None, *(self._hosts.get((comm, r)) for r in (link.source, link.target)))
        }
        return _names(kinds) if kinds else "a transport that NCCL has not told of"

    def report(self, preset: Preset) -> tuple[str, ...]:
        """Lines for the job's log: what each two instances use, and what was asked for instead."""
        lines = []
        for (one, other), transports in sorted(self.between_hosts().items()):
            lines.append(f"NCCL: {one} and {other} talk through {_names(transports)}.")
            if transports - _WANTED[preset]:
                lines.append(
                    f"WARNING: the NCCL preset {preset} asks for {_names(_WANTED[preset])}"
                    f" between {one} and {other}."
                )
        return tuple(lines)


def _names(transports: Iterable[Transport]) -> str:
    known: Mapping[Transport, str] = {
        "NET": "sockets (NET)",
        "SHM": "shared memory (SHM)",
        "P2P": "GPU peer to peer (P2P)",
    }
    return " and ".join(known[transport] for transport in sorted(transports))
