"""An engine, a capacity and a database for endpoints, all in memory; each can be told to fail."""

from __future__ import annotations

import queue
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.database import Database
from emulator.drivers.base import OutputSink
from emulator.drivers.choice import Runtimes
from emulator.model.claim import Claim
from emulator.model.hosting import ContainerSpec, Deployment, VariantSpec
from emulator.model.plan import Exit, JobPlan, RuntimeTraits
from emulator.model.scope import Scope
from emulator.placement.leases import Lease
from emulator.placement.ledger import Queued
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.plan.job_plan import Credentials
from emulator.workloads.serving.context import ServingContext
from emulator.workloads.serving.endpoints import Endpoints
from emulator.workloads.serving.model_data import Staged
from emulator.workloads.serving.routes import Routes
from emulator.workloads.serving.store import MIGRATION, HostingStore

SCOPE = Scope("111122223333", "us-east-1")
PATIENCE = 20.0


def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait for other threads."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "it takes too long"
        threading.Event().wait(0.005)


def deployment(name: str, count: int = 1, behaviour: str = "", **more: Any) -> Deployment:
    """One variant whose container behaves as FakeFleet says."""
    return read({"name": name, "count": count, "behaviour": behaviour, **more})


def read(sources: Mapping[str, Any]) -> Deployment:
    container = ContainerSpec("container-1", "image", {"BEHAVIOUR": sources["behaviour"]})
    count = sources.get("desired", {}).get("v", {}).get("count", sources["count"])
    variant = VariantSpec(
        "v",
        (container,),
        "ml.g5.xlarge",
        count,
        startup_seconds=sources.get("startup", 60.0),
        min_count=sources.get("min_count"),
    )
    return Deployment(sources["name"], sources, (variant,))


@dataclass
class FakeFleet:
    """A container that answers pings, ends at its start ("exits"), or is silent ("silent")."""

    plan: JobPlan
    sink: OutputSink
    gone: Callable[[], None]
    exits: queue.SimpleQueue[Exit] = field(default_factory=queue.SimpleQueue)
    left: bool = False

    def __post_init__(self) -> None:
        self.behaviour = self.plan.instances[0].environment["BEHAVIOUR"]
        self.sink("container-1", f"{self.behaviour or 'serves'}\n".encode())
        if self.behaviour == "exits":
            self.end(3)

    def end(self, code: int) -> None:
        self.exits.put(Exit("container-1", code, 0.0))

    def next_exit(self, timeout: float) -> Exit | None:
        try:
            return self.exits.get(timeout=timeout) if timeout else self.exits.get_nowait()
        except queue.Empty:
            return None

    def dial(self, host: str, port: int) -> socket.socket:  # noqa: ARG002
        if self.behaviour == "silent":
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.other = theirs  # open until the next one
        return ours

    def terminate(self) -> None:
        self.end(0)

    def kill(self, host: str | None = None) -> None:  # noqa: ARG002
        self.end(137)

    def leave(self) -> None:
        self.left = True

    def close(self) -> None:
        self.gone()


class FakeRuntime:
    """Keeps its fleets in a dictionary, which outlives an emulator if the test wants it."""

    traits = RuntimeTraits("fake", "eth0", "http://emulator", engine=True)

    def __init__(self, running: dict[str, FakeFleet] | None = None):
        self.running = {} if running is None else running
        self.launched = 0
        self.fail: Callable[[], None] = lambda: None
        """Called before each launch."""

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:
        pass

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        pass

    def launch(self, plan: JobPlan, sink: OutputSink) -> FakeFleet:
        self.fail()
        self.launched += 1
        fleet = FakeFleet(plan, sink, lambda: self.running.pop(plan.arn, None) and None)
        self.running[plan.arn] = fleet
        return fleet

    def adopt(
        self,
        arn: str,
        sink: OutputSink,
        received: Mapping[str, int] | None = None,  # noqa: ARG002
    ) -> FakeFleet | None:
        found = self.running.get(arn)
        if found is None:
            return None
        fleet = FakeFleet(found.plan, lambda *_: None, found.gone, found.exits)
        fleet.sink = sink
        self.running[arn] = fleet
        return fleet

    def remove(self, arn: str) -> None:
        self.running.pop(arn, None)

    def clean(self, keep: Collection[str] = ()) -> None:
        for arn in set(self.running) - set(keep):
            self.remove(arn)


class FakeCapacity:
    """So many GPUs, one an instance, for whoever comes first."""

    def __init__(self, gpus: int = 8):
        self._changed = threading.Condition()
        self.free = [f"GPU-{number}" for number in range(gpus)]
        self.held: dict[str, Lease] = {}
        self._line: list[str] = []

    def enqueue(self, spec: Claim) -> None:
        raise NotImplementedError

    def withdraw(self, spec: Claim) -> None:
        raise NotImplementedError

    def pass_on(self, lease: Lease, spec: Claim) -> Lease:
        raise NotImplementedError

    def recover(self, running: Any, waiting: Any = ()) -> Mapping[str, Lease]:
        raise NotImplementedError

    def acquire(
        self, spec: Claim, cancelled: threading.Event, waiting: Callable[[], None]
    ) -> Lease | None:
        with self._changed:
            self._line.append(spec.arn)
            try:
                if not self._has_turn(spec):
                    waiting()
                while not self._has_turn(spec) and not cancelled.is_set():
                    self._changed.wait()
            finally:
                self._line.remove(spec.arn)
                self._changed.notify_all()
            if cancelled.is_set():
                return None
            lease = Lease(spec.arn, spec.name, {spec.hosts[0].name: (self.free.pop(),)})
            self.held[spec.arn] = lease
            return lease

    def queued(self, job: str) -> Queued:
        return Queued(job, 1, 0, "needs 1 GPU, 0 free")

    def _has_turn(self, spec: Claim) -> bool:
        return bool(self.free) and self._line[0] == spec.arn

    def release(self, lease: Lease) -> None:
        with self._changed:
            if self.held.pop(lease.job, None):
                self.free += [gpu for gpus in lease.held.values() for gpu in gpus]
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class FakeModels:
    """Models without data."""

    def stage(self, *_: Any) -> Staged:
        return Staged()

    def unpack(self, *_: Any) -> None:
        raise NotImplementedError


class FailingDatabase(Database):
    """Fails the writes whose numbers are in `failing`, counted from 1."""

    def __init__(self, path: Path):
        self.writes = 0
        self.failing: frozenset[int] = frozenset()
        super().__init__(path, (MIGRATION,))
        self.writes = 0

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        self.writes += 1
        if self.writes in self.failing:
            raise sqlite3.OperationalError("database or disk is full")
        with super().writing() as connection:
            yield connection


class World:
    """One emulator's endpoints; `again` is the next emulator on the same state."""

    def __init__(self, path: Path, gpus: int = 8, before: World | None = None):
        self.path = path
        self.database = before.database if before else FailingDatabase(path / "db")
        self.store = HostingStore(self.database, read)
        self.capacity = before.capacity if before else FakeCapacity(gpus)
        self.runtime = FakeRuntime(before.runtime.running if before else None)
        self.logs = LogStore(path / "logs")
        self.routes = Routes()
        self.endpoints = Endpoints(
            ServingContext(
                store=self.store,
                logs=self.logs,
                runtimes=Runtimes(None, self.runtime),
                capacity=self.capacity,
                models=FakeModels(),
                credentials=Credentials("key", "secret"),
                directory=path / "endpoints",
                routes=self.routes,
                idle_seconds=0.05,
            )
        )

    def again(self) -> World:
        following = World(self.path, before=self)
        survivors = following.endpoints.survivors()
        for arn, lease in tuple(self.capacity.held.items()):
            if arn not in survivors:
                self.capacity.release(lease)
        following.runtime.clean(survivors)
        following.endpoints.recover(
            {arn: lease for arn, lease in self.capacity.held.items() if arn in survivors}
        )
        return following
