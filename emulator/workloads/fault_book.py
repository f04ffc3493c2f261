"""The faults that are seeded now; any thread may ask whether one happens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from threading import Lock
from typing import Any

from emulator.model.errors import SetupError
from emulator.model.faults import Chance, Fault, Kind, Stage, Tally, meets, take
from emulator.model.workload import WorkloadSpec


class FaultBook:
    """Seeded faults, in the order they were added, and how often each one happened."""

    def __init__(self, faults: Iterable[Fault] = ()):
        """Raises SetupError where two of them have one id."""
        self._lock = Lock()
        self._faults: dict[str, Fault] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}
        """By the fault's id, and by job for faults of jobs."""
        self._changed: Callable[[], None] = lambda: None
        for fault in faults:
            try:
                self.add(fault)
            except ValueError as error:
                raise SetupError(f"The settings seed faults wrongly: {error}.") from error

    def add(self, fault: Fault) -> Fault:
        """Seed a fault; raises ValueError if there is one with that id."""
        named = fault if fault.id else replace(fault, id=uuid.uuid4().hex[:12])
        with self._lock:
            if named.id in self._faults:
                raise ValueError(f"there is a fault with the id {named.id}")
            self._faults[named.id] = named
        self._changed()
        return named

    def remove(self, fault_id: str) -> bool:
        """False if there is none with that id."""
        with self._lock:
            self._forget(fault_id)
            found = self._faults.pop(fault_id, None) is not None
        self._changed()
        return found

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._tallies.clear()
        self._changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call this whenever faults were added or removed, from the thread that did it."""
        self._changed = changed

    def listing(self) -> list[dict[str, Any]]:
        """Every fault as JSON, with how often it happened (`taken`)."""
        with self._lock:
            return [
                {**asdict(fault), "taken": self._taken(fault.id)} for fault in self._faults.values()
            ]

    @property
    def is_empty(self) -> bool:
        """Is nothing seeded? Then nobody need ask."""
        return not self._faults

    def strike(self, chance: Chance, unless: set[str] | None = None) -> Fault | None:
        """The first fault that happens now; each one that meets the chance uses it up.

        Ids in `unless` had their chance before; those that have it now are added.
        """
        if not self._faults:  # the common case: cheap for every request
            return None
        with self._lock:
            for fault in self._faults.values():
                if not meets(fault, chance) or (unless is not None and fault.id in unless):
                    continue
                if unless is not None:
                    unless.add(fault.id)
                whom = chance.job if fault.kind.of_jobs else ""
                happens, tally = take(fault, self._tallies.get((fault.id, whom), Tally()), whom)
                self._tallies[fault.id, whom] = tally
                if happens:
                    return fault
        return None

    def _taken(self, fault_id: str) -> int:
        return sum(tally.taken for (known, _), tally in self._tallies.items() if known == fault_id)

    def _forget(self, fault_id: str) -> None:
        for known in [known for known in self._tallies if known[0] == fault_id]:
            del self._tallies[known]


class JobFaults:
    """The faults that one attempt of a job may meet; each gets one chance in it."""

    def __init__(self, book: FaultBook, spec: WorkloadSpec):
        self._book = book
        self._spec = spec
        self._had: set[str] = set()

    def at(self, kind: Kind, stage: Stage | None = None) -> Fault | None:
        """The fault of this kind that happens now."""
        return self._book.strike(Chance(kind, job=self._spec.name, stage=stage), self._had)

    def during_training(self, trained: float) -> Fault | None:
        """What happens to instances that have been training for so many seconds."""
        for kind, stage in (
            (Kind.SPOT_INTERRUPTION, None),
            (Kind.INSTANCE_FAILURE, None),
            (Kind.INTERNAL_SERVER_ERROR, Stage.TRAINING),
        ):
            if kind is Kind.SPOT_INTERRUPTION and not self._spec.spot:
                continue
            chance = Chance(
                kind,
                job=self._spec.name,
                hosts=tuple(host.name for host in self._spec.hosts),
                stage=stage,
                trained=trained,
            )
            if fault := self._book.strike(chance, self._had):
                return fault
        return None
