"""What pages and the JSON behind them are made of: the parts of the emulator they ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.types import ASGIApp

from emulator.data.cache.objects import ObjectCache
from emulator.data.objectstore.objects import ObjectStore
from emulator.model.scope import Scope
from emulator.model.workload import Kind
from emulator.placement.gpu_capacity import GpuCapacity
from emulator.placement.machine import Machine
from emulator.settings import Settings
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MetricStore
from emulator.workloads.machine_watch import MachineWatch
from emulator.workloads.run.supervisor import Supervisor
from emulator.workloads.serving.endpoints import Endpoints
from emulator.workloads.serving.store import HostingStore
from emulator.workloads.store.runs import JobStore

Create: TypeAlias = Callable[[Kind, Scope, Mapping[str, Any]], object]
"""Carries out the Create operation of a kind with this request. Raises ApiError."""


@dataclass(frozen=True)
class Sources:
    """The parts of one emulator."""

    settings: Settings
    started: float
    """Epoch seconds."""
    machine: Machine
    health: Callable[[], Mapping[str, Any]]
    """The answer of /_emulator/health."""
    records: JobStore
    logs: LogStore
    metrics: MetricStore
    capacity: GpuCapacity
    supervisor: Supervisor
    objects: ObjectStore
    cache: ObjectCache
    watch: MachineWatch
    create: Create
    hosting: HostingStore
    endpoints: Endpoints
    runtime: ASGIApp
    """Answers requests to the endpoints."""
