"""All that endpoints are kept running with, from the floors below."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from emulator.drivers.choice import Runtimes
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.plan.job_plan import Credentials
from emulator.workloads.run.clock import Clock
from emulator.workloads.run.context import CapacityPool
from emulator.workloads.serving.model_data import ModelStore
from emulator.workloads.serving.routes import Routes
from emulator.workloads.serving.store import HostingStore


@dataclass(frozen=True)
class ServingContext:
    """The parts; `parts.py` puts it together."""

    store: HostingStore
    logs: LogStore
    runtimes: Runtimes
    capacity: CapacityPool
    models: ModelStore
    credentials: Credentials
    directory: Path
    """Every instance has a directory of its own below it."""
    routes: Routes
    ping_seconds: float = 5.0
    """Between two pings of an instance in service."""
    stop_grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL (developer guide)."""
    hurried_grace: float = 3.0
    """The same at a shutdown that leaves no instance."""
    drain_seconds: float = 480.0
    """For which the requests to an instance that is replaced are waited for: the longest stream."""
    idle_seconds: float = 600.0
    """After which a variant that may have no instance gives its own back."""
    leaves_instances: bool = True
    """At a shutdown, instances go on without the emulator."""
    clock: Clock = field(default_factory=Clock)

    def directory_of(self, scope: Scope, endpoint: str, identifier: str) -> Path:
        return self.directory / scope.account / scope.region / endpoint / identifier
