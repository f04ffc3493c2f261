"""What the machine has, who holds it and who waits: the numbers behind every decision.

No threads, no database, no look at the machine: `gpu_capacity` adds those.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from emulator.model.claim import Claim
from emulator.model.errors import CapacityError
from emulator.placement.allocation import (
    NO_CAPACITY,
    Demand,
    Policy,
    Want,
    explain,
    place,
    pool,
    size,
)
from emulator.placement.device import Gpu
from emulator.placement.gpus import Inventory
from emulator.placement.instance_types import Catalog
from emulator.placement.leases import Lease
from emulator.placement.machine import Machine
from emulator.placement.scheduler import (
    GPUS,
    MEMORY,
    MILLICORES,
    PLACES,
    WHOLE_GPUS,
    Held,
    Running,
    Waiting,
    held_back,
    next_start,
)

log = logging.getLogger(__name__)

PRIORITY_TAG = "emulator:priority"
"""A tag of this key moves a job up (a positive whole number) or down in the queue."""
END_SECONDS = 600
"""Allowed on top of MaxRuntimeInSeconds for data, the stop's grace and the upload."""

Exclusive = Callable[[Claim], Iterable[str]]
"""Names what a job must have for itself, such as a fixed port on a network that instances
share with the host."""


@dataclass(frozen=True)
class Rules:
    """What the user's settings say about sharing this machine."""

    gpu_policy: Policy = "scale"
    use_busy_gpus: bool = False
    """Give out GPUs on which processes of others compute."""
    max_jobs: int | None = None
    """Jobs that run at once."""
    max_gpus: int | None = None
    """GPUs that all jobs together may hold."""
    overcommit: float = 4.0
    """vCPUs and memory that instances without GPUs may be promised for each real one.

    An instance type is far larger than what a rehearsal uses of it. A job alone always
    fits: it is counted as the whole machine at most.
    """


@dataclass(frozen=True)
class Order:
    """A job in the queue."""

    spec: Claim
    demands: tuple[Demand, ...]
    arrival: int
    priority: int

    @property
    def job(self) -> str:
        return self.spec.arn


@dataclass(frozen=True)
class Queued:
    """A job's place in line, and why it waits there."""

    job: str
    """Its ARN."""
    place: int
    """1 is the next."""
    priority: int
    reason: str
    """For people."""
    endpoints: tuple[str, ...] = ()
    """Instances of endpoints that hold GPUs, if it lacks some: they may never give them back."""


class Ledger:
    """Not safe for threads."""

    def __init__(
        self,
        machine: Machine,
        catalog: Catalog,
        rules: Rules,
        exclusive: Exclusive,
        inventory: Inventory,
    ):
        self._machine = machine
        self._catalog = catalog
        self._rules = rules
        self._exclusive = exclusive
        self.inventory = Inventory()
        self.update_inventory(inventory)
        self.leases: dict[str, Lease] = {}
        self.queue: dict[str, Order] = {}
        self._running: dict[str, Running] = {}
        self._lasting: dict[str, str] = {}
        """By what holds GPUs and has no end of its own, its name."""
        self._arrivals = 0
        self._places: dict[str, int] = {}

    def update_inventory(self, found: Inventory) -> None:
        """Take in how the GPUs look now.

        A driver that fails for a moment takes no GPU away: jobs in the queue would fail.
        """
        if found.findings and not found.gpus and self.inventory.gpus:
            log.warning("The GPUs cannot be read: %s", "; ".join(found.findings))
            return
        self.inventory = found

    def order(self, spec: Claim) -> Order:
        """Put a job into the queue; raises CapacityError if it could never run."""
        demands = self.demands(spec)
        self._want(demands)
        place = self._places.pop(spec.arn, None) or self._next_place()
        order = Order(spec, demands, place, priority(spec))
        self.queue[order.job] = order
        return order

    def expect(self, specs: Iterable[Claim]) -> None:
        """Keep the places in line of jobs that will be ordered again, in this order."""
        for spec in specs:
            self._places[spec.arn] = self._next_place()

    def demands(self, spec: Claim) -> tuple[Demand, ...]:
        """The job's instances; raises CapacityError for a type that nobody knows."""
        for host in spec.hosts:
            if self._catalog.find(host.instance_type) is None:
                raise CapacityError(f"{NO_CAPACITY} ({host.instance_type} is not a known type.)")
        return self._known_demands(spec)

    def reject_infeasible(self) -> dict[str, CapacityError]:
        """Jobs leave the queue that the machine has lost the GPUs for, with the reason."""
        refused: dict[str, CapacityError] = {}
        for job, order in tuple(self.queue.items()):
            try:
                self._want(order.demands)
            except CapacityError as error:
                refused[job] = error
                del self.queue[job]
        return refused

    def next_lease(self, now: float) -> Lease | None:
        """What to give to whom now; the job stays in the queue until it is held."""
        wants = {job: self._want(order.demands) for job, order in self.queue.items()}
        waiting = [self._waiting(order, wants[job]) for job, order in self.queue.items()]
        chosen = next_start(self._capacity(waiting), tuple(self._running.values()), waiting, now)
        if chosen is None:
            return None
        want = wants[chosen.job]
        gpus = place(want, self._free())
        if gpus is None:  # The policy counts the same devices: this cannot be.
            raise AssertionError(f"{chosen.job} was chosen without GPUs for it")
        order = self.queue[chosen.job]
        return Lease(
            job=chosen.job,
            name=order.spec.name,
            held=dict(gpus),
            rehearsal=self.inventory.rehearsal and want.total > 0,
            shared=self.inventory.meet_on_one(dict(gpus)),
            notes=self._notes(order.demands, want, gpus),
        )

    def line(self) -> tuple[Queued, ...]:
        """Who waits, in the order in which jobs have a right to start."""
        waiting = []
        for order in self.queue.values():
            with suppress(CapacityError):  # it leaves the queue with the next look at the machine
                waiting.append(self._waiting(order, self._want(order.demands)))
        held = held_back(self._capacity(waiting), tuple(self._running.values()), waiting)
        names = [self.queue[one.job.job].spec.name for one in held]
        return tuple(
            Queued(
                one.job.job,
                place,
                one.job.priority,
                _why(one, names[: place - 1]),
                tuple(self._lasting.values()) if GPUS in dict(one.lacks) else (),
            )
            for place, one in enumerate(held, start=1)
        )

    def move_first(self, job: str) -> bool:
        """Put a job before all others of the queue; False if it is not in there."""
        order = self.queue.get(job)
        if order is None:
            return False
        most = max(other.priority for other in self.queue.values())
        earliest = min(other.arrival for other in self.queue.values())
        if order.priority == most and order.arrival == earliest:
            return True
        self.queue[job] = replace(order, priority=most, arrival=earliest - 1)
        return True

    def hold(self, spec: Claim, lease: Lease, since: float) -> None:
        """The job runs with this lease; `since` in epoch seconds.

        It may be of a type that has left the settings since it was started.
        """
        self.queue.pop(lease.job, None)
        self._places.pop(lease.job, None)
        held = [self.inventory.find(uuid) for uuid in lease.holders]
        counts = {host: len(uuids) for host, uuids in lease.held.items()}
        self.leases[lease.job] = lease
        if spec.lasting and lease.holders:
            self._lasting[lease.job] = spec.name
        self._running[lease.job] = Running(
            job=lease.job,
            holds={
                GPUS: len(held),
                WHOLE_GPUS: sum(gpu is None or not gpu.is_slice for gpu in held),
                **self._shares(spec, self._known_demands(spec), counts),
            },
            ends_by=since + _runtime(spec),
        )

    def drop(self, job: str) -> bool:
        """The job has ended; False if it held nothing."""
        lease = self.leases.pop(job, None)
        if lease is None:
            return False
        del self._running[job]
        self._lasting.pop(job, None)
        # What was last seen to compute there was this job.
        gpus = tuple(
            replace(gpu, processes=()) if gpu.uuid in lease.holders else gpu
            for gpu in self.inventory.gpus
        )
        self.inventory = replace(self.inventory, gpus=gpus)
        return True

    @property
    def others_compute(self) -> bool:
        """Whether processes of others keep a GPU from jobs."""
        return len(self._usable()) < len(self.inventory.gpus)

    def _known_demands(self, spec: Claim) -> tuple[Demand, ...]:
        """The job's instances of types that are known."""
        return tuple(
            Demand(host.name, type_)
            for host in spec.hosts
            if (type_ := self._catalog.find(host.instance_type))
        )

    def _next_place(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _want(self, demands: Sequence[Demand]) -> Want:
        """What the instances get: of the GPUs that others leave, else of all, in time."""
        if self.inventory.findings and not self.inventory.gpus:
            self._refuse_without_driver(demands)
        most = self._rules.max_gpus
        usable = pool(self._usable(), most)
        if usable.total:
            try:
                return size(demands, self._rules.gpu_policy, usable)
            except CapacityError:
                log.debug("Not with what others leave; perhaps once they are gone.")
        return size(demands, self._rules.gpu_policy, pool(self.inventory.gpus, most))

    def _refuse_without_driver(self, demands: Sequence[Demand]) -> None:
        """A job for GPUs must not end up on the CPU because the driver is broken."""
        if any(demand.type.gpu_count for demand in demands):
            raise CapacityError(f"{NO_CAPACITY} ({'; '.join(self.inventory.findings)})")

    def _waiting(self, order: Order, want: Want) -> Waiting:
        return Waiting(
            job=order.job,
            needs={
                GPUS: want.total,
                WHOLE_GPUS: want.whole,
                **self._shares(order.spec, order.demands, dict(want.gpus)),
            },
            runtime=_runtime(order.spec),
            arrival=order.arrival,
            priority=order.priority,
        )

    def _shares(
        self, spec: Claim, demands: Sequence[Demand], gpus: Mapping[str, int]
    ) -> dict[str, int]:
        """All that a job needs but GPUs.

        Instances with GPUs are limited by those alone: a free GPU is not kept idle because
        its type's hundred vCPUs are not there.
        """
        if spec.lasting:
            return {}
        on_cpu = [demand.type for demand in demands if not gpus.get(demand.host)]
        millicores = 1000 * sum(type_.vcpu for type_ in on_cpu) / self._rules.overcommit
        memory = sum(type_.memory_mib for type_ in on_cpu) / self._rules.overcommit
        return {
            MILLICORES: min(round(millicores), self._machine.cores * 1000),
            MEMORY: min(round(memory), self._machine.memory_mib),
            PLACES: 1,
            **dict.fromkeys(self._exclusive(spec), 1),
        }

    def _capacity(self, waiting: Iterable[Waiting]) -> dict[str, int]:
        free = pool(self._free())
        held = [job.holds for job in self._running.values()]
        # A GPU that fell off the bus while a job holds it is not one of the free ones.
        there = free.total + sum(one[GPUS] for one in held)
        return {
            # A named thing that is exclusive is there once.
            **dict.fromkeys((name for job in waiting for name in job.needs), 1),
            GPUS: there if self._rules.max_gpus is None else min(there, self._rules.max_gpus),
            WHOLE_GPUS: free.whole + sum(one[WHOLE_GPUS] for one in held),
            MILLICORES: self._machine.cores * 1000,
            MEMORY: self._machine.memory_mib,
            PLACES: self._rules.max_jobs or len(self._running) + 1,
        }

    def _usable(self) -> tuple[Gpu, ...]:
        """GPUs that jobs hold or could hold: all but those on which others compute."""
        held = self._held()
        return tuple(
            gpu
            for gpu in self.inventory.gpus
            if self._rules.use_busy_gpus or gpu.uuid in held or not gpu.processes
        )

    def _free(self) -> tuple[Gpu, ...]:
        held = self._held()
        return tuple(gpu for gpu in self._usable() if gpu.uuid not in held)

    def _describe(self, uuid: str) -> str:
        gpu = self.inventory.find(uuid)
        return f"{uuid} ({gpu.name}, {gpu.memory_mib} MiB)" if gpu else uuid

    def _held(self) -> set[str]:
        return {gpu for lease in self.leases.values() for gpu in lease.holders}

    def _notes(
        self,
        demands: Sequence[Demand],
        want: Want,
        gpus: Sequence[tuple[str, tuple[str, ...]]],
    ) -> tuple[str, ...]:
        if not any(demand.type.gpu_count for demand in demands):
            return ()
        notes = explain(demands, want, self._rules.gpu_policy)
        notes += tuple(
            f"{host}: {', '.join(self._describe(uuid) for uuid in uuids)}."
            for host, uuids in gpus
            if uuids
        )
        if self.inventory.rehearsal and want.total:
            notes += ("The GPUs are those of EMULATOR_GPU_INVENTORY: instances get no device.",)
        return notes + tuple(f"GPU driver: {finding}" for finding in self.inventory.findings)


def _why(held: Held, before: Sequence[str]) -> str:
    """Why a job waits: what is missing, and who has a right to it first."""
    lacks = dict(held.lacks)
    if GPUS in lacks:
        lacks.pop(WHOLE_GPUS, None)  # the same ones, in other words
    missing = [_missing(name, *amounts) for name, amounts in lacks.items()]
    if not missing:
        return f"fits now, but would delay {before[0]}" if before else "starts next"
    behind = f"; behind {before[-1]}" if before else ""
    return f"{', '.join(missing)}{behind}"


def _missing(name: str, needed: int, free: int) -> str:
    if name == GPUS:
        return f"needs {needed} {'GPU' if needed == 1 else 'GPUs'}, {free} free"
    if name == WHOLE_GPUS:
        return f"needs {needed} whole {'GPU' if needed == 1 else 'GPUs'}, {free} free"
    if name == MILLICORES:
        return f"needs {needed / 1000:g} cores, {free / 1000:g} free"
    if name == MEMORY:
        return f"needs {needed / 1024:.1f} GiB of memory, {free / 1024:.1f} free"
    if name == PLACES:
        return "as many jobs run as may (EMULATOR_MAX_JOBS)"
    return f"needs {name}, which another job uses"


def priority(spec: Claim) -> int:
    """The job's priority by tag; 0 without one or with one that is not a whole number."""
    wanted = spec.tags.get(PRIORITY_TAG, "0")
    try:
        return int(wanted)
    except ValueError:
        log.warning("%s: %s is not a priority", spec.label, wanted)
        return 0


def _runtime(spec: Claim) -> float:
    return spec.max_runtime + END_SECONDS
