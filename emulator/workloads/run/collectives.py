"""How the ranks of a job talk to each other: arranged, reported, and ended when it hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from emulator.drivers.base import Measured
from emulator.model.plan import Sharing
from emulator.model.workload import WorkloadSpec
from emulator.placement import nccl
from emulator.placement.hangs import MARKS, Hang, parse_hang
from emulator.placement.leases import Lease

SETTLED_SECONDS = 2.0
"""NCCL makes its channels in a burst: they are reported when it is over."""
LEAVE_SECONDS = 30.0
"""A rank that gave up ends by itself, and takes its job along; so long it may take."""
IDLE_SHARE = 0.05
"""Of one processor: an instance that waits for its peers in sleep uses less."""

_LOOKS = 10
"""Looks at the processors' time in the time after which a job counts as hung."""
_NCCL_MARK = b"NCCL INFO"
_LINE_LIMIT = 65_536

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Links:
    """What a job's instances are given so that NCCL talks as the preset says."""

    preset: nccl.Preset
    sharing: Sharing = field(default_factory=Sharing)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By host."""


def arrange_links(spec: WorkloadSpec, lease: Lease, default: nccl.Preset) -> Links:
    """The job's preset and what comes of it; raises ClientError for one that is not known."""
    preset = nccl.choose_preset(default, spec, lease.shared)
    environments = {
        host: nccl.environment(preset, spec.name, host, gpus) for host, gpus in lease.gpus.items()
    }
    several = sum(bool(gpus) for gpus in lease.gpus.values()) > 1
    return Links(preset, nccl.sharing(preset) if several else Sharing(), environments)


class CollectiveWatch:
    """An observer of a job's output, and its judge of whether the ranks still get on.

    A collective that hangs shows in three ways. A rank says itself that it gave up: then it
    ends with an error, as does its job; ranks that do not end are ended here. Or all
    instances wait in sleep (gloo does): nobody writes and no processor works. Or NCCL waits,
    spinning, which cannot be told from work: there PyTorch's own limit makes the rank speak.
    """

    def __init__(
        self,
        spec: WorkloadSpec,
        preset: nccl.Preset,
        idle_seconds: float,
        monotonic: Callable[[], float],
        say: Callable[[str], None],
    ):
        """`say` takes a line for the job's log; `idle_seconds` of 0 lets instances sleep."""
        self._hosts = [host.name for host in spec.hosts]
        self._preset = preset
        self._idle_seconds = idle_seconds if len(self._hosts) > 1 else 0
        self._monotonic = monotonic
        self._say = say
        self._lock = Lock()
        self._transports = nccl.Transports()
        self._rests: dict[str, bytes] = {}
        self._reported: set[str] = set()
        self._linked_at: float | None = None
        self._hang: tuple[str, Hang, float] | None = None
        """Host, what it said, and when."""
        self._active_at = monotonic()
        self._looked_at = self._active_at
        self._worked: Mapping[str, float] = {}
        """Seconds of processor time by host, at the last look."""

    def feed(self, host: str, data: bytes) -> None:
        """The next bytes of an instance's output."""
        self._active_at = self._monotonic()
        lines, _, rest = (self._rests.get(host, b"") + data).rpartition(b"\n")
        self._rests[host] = rest[-_LINE_LIMIT:]
        if _NCCL_MARK in lines or any(mark in lines for mark in MARKS):
            with self._lock:
                for line in lines.decode("utf-8", "replace").split("\n"):
                    self._read(host, line)

    def finish(self, host: str) -> None:  # noqa: ARG002
        """An instance has ended: its peers are busy with that."""
        self._active_at = self._monotonic()

    def close(self) -> None:
        """Report what was not reported yet."""
        with self._lock:
            self._report()

    def trouble(self, fleet: object) -> str | None:
        """Why the job must be ended now, in words for its FailureReason; None while it need not."""
        now = self._monotonic()
        with self._lock:
            if self._linked_at is not None and now - self._linked_at >= SETTLED_SECONDS:
                self._report()
            hang = self._hang
        if hang and now - hang[2] >= LEAVE_SECONDS:
            return self._words(hang[0], hang[1])
        if self._idle_seconds and isinstance(fleet, Measured):
            return self._asleep(fleet, now)
        return None

    def _read(self, host: str, line: str) -> None:
        if self._transports.read(line):
            self._linked_at = self._monotonic()
        hang = parse_hang(line)
        if hang and self._hang is None:
            self._hang = (host, hang, self._monotonic())
            self._say(self._words(host, hang))

    def _report(self) -> None:
        self._linked_at = None
        for line in self._transports.report(self._preset):
            if line not in self._reported:
                self._reported.add(line)
                self._say(line)

    def _words(self, host: str, hang: Hang) -> str:
        who = f"rank {hang.rank} on {host}" if hang.rank is not None else f"a rank on {host}"
        through = "TCP" if hang.library == "gloo" else self._transports.through(host, hang.rank)
        return (
            f"A collective of {hang.library} hangs: {who} waits for its peers through {through}; "
            f"{hang.waits}."
        )

    def _asleep(self, fleet: Measured, now: float) -> str | None:
        if now - self._looked_at < self._idle_seconds / _LOOKS:
            return None
        worked = {host: usage.cpu_seconds for host, usage in fleet.usage().items()}
        # A runtime that cannot tell of an instance cannot call it idle.
        known = self._worked.keys() >= worked.keys() and bool(worked)
        most = max((worked[host] - self._worked.get(host, 0) for host in worked), default=0)
        if not known or most > IDLE_SHARE * (now - self._looked_at):
            self._active_at = now
        self._worked, self._looked_at = worked, now
        if now - self._active_at < self._idle_seconds:
            return None
        return (
            f"All of {', '.join(worked)} have been waiting for {self._idle_seconds:g} s: none "
            "wrote a line or computed anything. Their ranks seem to wait for each other "
            f"(transport: {self._transports.through()})."
        )
