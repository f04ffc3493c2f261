"""Jobs wait here until the machine has what they need, and give it back here.

The decisions are pure (`allocation`, `scheduler`, `ledger`); this is their effect: a waiting
thread a job, leases in the database. The queue is gone through when a job arrives, ends or is
stopped, and whoever may start is woken. Nothing is polled, with one exception: the process of
somebody else leaves a GPU without telling anyone, so while one is there waiting jobs look
again every few seconds.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from emulator.model.claim import Claim
from emulator.model.errors import CapacityError, InternalServerError, JobError
from emulator.placement.gpus import Inventory
from emulator.placement.instance_types import Catalog
from emulator.placement.leases import Holding, Lease, LeaseBook
from emulator.placement.ledger import Exclusive, Ledger, Queued, Rules
from emulator.placement.machine import Machine

log = logging.getLogger(__name__)

GPU_LOOK_SECONDS = 5.0
_CANNOT_LEASE = "The GPUs cannot be leased"


class GpuCapacity:
    """The machine's GPUs, cores and memory, shared by all jobs. Any thread may use it."""

    def __init__(
        self,
        book: LeaseBook,
        survey: Callable[[], Inventory],
        machine: Machine,
        catalog: Catalog,
        rules: Rules | None = None,
        exclusive: Exclusive = lambda _: (),
        clock: Callable[[], float] = time.time,
    ):
        """`survey` looks at the GPUs as they are now; `clock` gives epoch seconds."""
        self._book = book
        self._survey = survey
        self._clock = clock
        self._changed = threading.Condition()
        # All three only under the lock.
        self._looked_at = clock()
        self._ledger = Ledger(machine, catalog, rules or Rules(), exclusive, survey())
        self._failed: dict[str, JobError] = {}
        self._unclosed: set[str] = set()
        """Jobs that hold nothing any more, although the database still says so."""
        self._enqueued: set[str] = set()
        """Jobs in line whose `acquire` has not come yet."""

    def recover(
        self, running: Iterable[Claim], waiting: Iterable[Claim] = ()
    ) -> Mapping[str, Lease]:
        """Once, at start: the leases of jobs that still run, by ARN; all others are closed.

        `waiting` are those that will come again, in the order in which they came first.
        """
        specs = {spec.arn: spec for spec in running}
        for lost in self._book.close_all_but(specs, self._clock()):
            log.warning("Its job is gone: the GPUs of %s are free again", lost)
        with self._changed:
            for spec in specs.values():
                self._hold_recorded(spec)
            self._ledger.expect(waiting)
            return {arn: self._ledger.leases[arn] for arn in specs}

    def enqueue(self, spec: Claim) -> None:
        """Take a job's place in line for the `acquire` that follows in another thread.

        So jobs start in the order of these calls. What can never run is told by `acquire`.
        """
        with self._changed, suppress(CapacityError):
            self._ledger.order(spec)
            self._enqueued.add(spec.arn)

    def withdraw(self, spec: Claim) -> None:
        """Give up that place, and what has been granted to it, if no `acquire` has followed."""
        with self._changed:
            if spec.arn in self._enqueued:
                self._enqueued.discard(spec.arn)
                self._leave(spec.arn)

    def acquire(
        self,
        spec: Claim,
        cancelled: threading.Event,
        waiting: Callable[[], None] = lambda: None,
    ) -> Lease | None:
        """Wait until the job may run; None if `cancelled` was set before.

        `waiting` is called once if the job cannot start at once; `cancelled` is looked at
        again after each `wake()`. Raises CapacityError for what this machine can never give.
        """
        if any(demand.type.gpu_count for demand in self._ledger.demands(spec)):
            self._look()
        with self._changed:
            if spec.arn in self._enqueued:
                self._enqueued.discard(spec.arn)
            else:
                self._ledger.order(spec)
            self._start_what_fits()
            at_once = spec.arn not in self._ledger.queue
        try:
            if not at_once:
                waiting()
            return self._await(spec.arn, cancelled)
        except BaseException:
            # Nobody is left who could give back what it would be given later.
            with self._changed:
                self._leave(spec.arn)
            raise

    def release(self, lease: Lease) -> None:
        """Give everything back; a second time does nothing.

        A database that does not take it, such as one on a full disk, keeps nobody from what
        was given back: the end of this lease is recorded with the start of the next one.
        """
        with self._changed:
            if self._ledger.drop(lease.job):
                self._close(lease.job)
                self._start_what_fits()

    def pass_on(self, lease: Lease, spec: Claim) -> Lease:
        """Give what a job held, and a warm pool kept, to the next one; nobody comes between.

        Raises InternalServerError; the lease is as it was then.
        """
        self.withdraw(spec)
        passed = replace(lease, job=spec.arn, name=spec.name)
        with self._changed:
            now = self._clock()
            try:
                self._book.open(passed, now, instead_of=(lease.job, *self._unclosed))
            except sqlite3.Error as error:
                raise InternalServerError(f"{_CANNOT_LEASE}: {error}.") from error
            self._unclosed.clear()
            self._ledger.drop(lease.job)
            self._ledger.hold(spec, passed, now)
        return passed

    def wake(self) -> None:
        """Let waiting jobs see at once whether they are cancelled."""
        with self._changed:
            self._changed.notify_all()

    def line(self) -> tuple[Queued, ...]:
        """Who waits, in order, and why."""
        with self._changed:
            return self._ledger.line()

    def queued(self, job: str) -> Queued | None:
        """The place in line of what has that ARN; None if it does not wait."""
        return next((one for one in self.line() if one.job == job), None)

    def move_first(self, job: str) -> bool:
        """Let the job of that ARN start before all others; False if it does not wait here.

        The order lasts until the emulator ends.
        """
        with self._changed:
            moved = self._ledger.move_first(job)
            if moved:
                self._start_what_fits()
            return moved

    def leases(self) -> tuple[Lease, ...]:
        """What the jobs that run, and warm pools, hold."""
        with self._changed:
            return tuple(self._ledger.leases.values())

    def held(self) -> dict[str, Holding]:
        """The open lease of each GPU that somebody holds, by UUID."""
        with self._changed:
            unclosed = set(self._unclosed)
        return {one.gpu: one for one in self._book.holdings() if one.job not in unclosed}

    def inventory(self) -> Inventory:
        """The GPUs as last seen."""
        with self._changed:
            return self._ledger.inventory

    def holdings(self) -> dict[str, list[dict[str, Any]]]:
        """Every GPU with the job and the instance that hold it, null when it is free."""
        held = self.held()
        return {
            "gpus": [
                {
                    "uuid": gpu.uuid,
                    "name": gpu.name,
                    "memory_mib": gpu.memory_mib,
                    "job": held[gpu.uuid].name if gpu.uuid in held else None,
                    "instance": ",".join(held[gpu.uuid].hosts) if gpu.uuid in held else None,
                }
                for gpu in self.inventory().gpus
            ]
        }

    def _await(self, job: str, cancelled: threading.Event) -> Lease | None:
        while True:
            with self._changed:
                if failure := self._failed.pop(job, None):
                    raise failure
                if lease := self._ledger.leases.get(job):
                    return lease
                if cancelled.is_set():
                    del self._ledger.queue[job]
                    self._start_what_fits()
                    return None
                others = self._ledger.others_compute
                look = others and self._clock() - self._looked_at >= GPU_LOOK_SECONDS
                if not look:
                    self._changed.wait(GPU_LOOK_SECONDS if others else None)
            if look:
                self._look()

    def _leave(self, job: str) -> None:
        """Only under the lock: a job neither waits nor holds anything any more."""
        self._failed.pop(job, None)
        self._ledger.queue.pop(job, None)
        if self._ledger.drop(job):
            self._close(job)
        self._start_what_fits()

    def _close(self, job: str) -> None:
        self._unclosed.add(job)
        for gone in tuple(self._unclosed):
            try:
                self._book.close(gone, self._clock())
            except sqlite3.Error as error:
                log.warning("That %s holds no GPU any more is not recorded yet: %s", gone, error)
                return
            self._unclosed.discard(gone)

    def _look(self) -> None:
        """See what others do on the GPUs now; takes a second where only nvidia-smi answers."""
        with self._changed:
            # Set before the look: of several waiting jobs one looks.
            self._looked_at = self._clock()
        found = self._survey()
        with self._changed:
            self._ledger.update_inventory(found)
            self._start_what_fits()

    def _start_what_fits(self) -> None:
        """Lease to every job that the policy lets start now."""
        self._failed.update(self._ledger.reject_infeasible())
        while lease := self._ledger.next_lease(self._clock()):
            spec = self._ledger.queue[lease.job].spec
            now = self._clock()
            try:
                self._book.open(lease, now, instead_of=tuple(self._unclosed))
            except sqlite3.Error as error:
                # This may be another job's thread: the failure is that of the job alone.
                del self._ledger.queue[lease.job]
                self._failed[lease.job] = InternalServerError(f"{_CANNOT_LEASE}: {error}.")
            else:
                self._unclosed.clear()
                self._ledger.hold(spec, lease, now)
        self._changed.notify_all()

    def _hold_recorded(self, spec: Claim) -> None:
        held = [holding for holding in self._book.holdings() if holding.job == spec.arn]
        by_host = {
            host.name: tuple(one.gpu for one in held if host.name in one.hosts)
            for host in spec.hosts
        }
        lease = Lease(
            job=spec.arn,
            name=spec.name,
            held=by_host,
            rehearsal=self._ledger.inventory.rehearsal and bool(held),
            shared=self._ledger.inventory.meet_on_one(by_host),
        )
        since = min((holding.opened for holding in held), default=self._clock())
        self._ledger.hold(spec, lease, since)
