"""The composition root: the only place that wires the parts together."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from emulator import __version__
from emulator.aws.control import disturb_operations, routes
from emulator.aws.gateway import Gateway
from emulator.aws.roles import Roles
from emulator.aws.s3_proxy import S3Proxy
from emulator.aws.services import (
    cloudwatch,
    ecr,
    iam,
    job_updates,
    log_writes,
    logs,
    sagemaker_metrics,
    search,
    sts,
    tags,
    training_jobs,
)
from emulator.cluster import leases
from emulator.cluster.fixed_ports import fixed_ports
from emulator.cluster.gpu_capacity import GpuCapacity
from emulator.cluster.gpus import surveyor
from emulator.cluster.instance_types import Catalog, load_catalog
from emulator.cluster.ledger import Rules
from emulator.cluster.machine import this_machine
from emulator.container.plan import Credentials
from emulator.database import Database
from emulator.jobs.disturbed import DisturbedInputs, DisturbedOutputs
from emulator.jobs.exchange import S3Inputs, S3Outputs
from emulator.jobs.faults import FaultBook
from emulator.jobs.reports import JobReports
from emulator.jobs.store import MIGRATIONS, JobStore
from emulator.jobs.supervisor import Supervisor
from emulator.jobs.syncing import S3Syncs
from emulator.jobs.workshop import Workshop
from emulator.logs.streams import LogStore
from emulator.metrics.store import MIGRATIONS as METRIC_MIGRATIONS
from emulator.metrics.store import MetricStore
from emulator.model.errors import SetupError
from emulator.model.plan import RuntimeTraits
from emulator.runtimes.process import ProcessRuntime
from emulator.settings import Settings
from emulator.storage.embedded import EmbeddedStore
from emulator.storage.objects import ObjectStore

_BACKLOG = 2048
_SCHEMA = (*MIGRATIONS, leases.MIGRATION)
"""Scripts are applied by their place: once released, a new one goes to the end."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """What answers requests, once everything is started."""

    supervisor: Supervisor
    records: JobStore
    logs: LogStore
    metrics: MetricStore
    runtime: ProcessRuntime
    capacity: GpuCapacity
    catalog: Catalog
    s3: S3Proxy
    s3_endpoint: str
    faults: FaultBook


class _Doors:
    """The endpoint on other sockets than its own: those inside the networks of jobs.

    They are served by the endpoint's own event loop, which the object store's client of
    the application is bound to.
    """

    def __init__(self) -> None:
        self._application: FastAPI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, application: FastAPI) -> None:
        """Called in the endpoint's event loop, before the first request."""
        self._application = application
        self._loop = asyncio.get_running_loop()

    def open(self, listening: socket.socket) -> Callable[[], None]:
        """Answer on that socket, too; the function it returns ends that soon."""
        assert self._application and self._loop  # noqa: S101 - jobs come through the endpoint
        config = uvicorn.Config(
            self._application, log_config=None, access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        asyncio.run_coroutine_threadsafe(server.serve([listening]), self._loop)
        return lambda: setattr(server, "should_exit", True)


class Emulator:
    """One emulator: a port, a state directory and everything that runs behind them.

    The thread that enters `running` must live as long as the emulator: the embedded
    object store ends with it.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._resources = ExitStack()
        self._doors = _Doors()

    @property
    def url(self) -> str:
        """Where AWS clients find it, with the port that was really taken."""
        if self._socket is None:
            raise SetupError("The emulator is not running.")
        port = self._socket.getsockname()[1]
        host = self.settings.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{port}"  # noqa: S104

    @classmethod
    @contextmanager
    def running(cls, settings: Settings) -> Iterator[Emulator]:
        """An emulator that answers while the context lasts.

        Raises SetupError where it cannot start and OSError where the port is taken.
        """
        emulator = cls(settings)
        try:
            emulator.start()
            yield emulator
        finally:
            emulator.close()

    def start(self) -> None:
        """Take the port, start all parts, settle what an earlier run left, then answer."""
        # The port first: somebody else's emulator must not cost us half a start.
        self._socket = self._listen()
        parts = self._build(self.url)
        parts.supervisor.recover()
        config = uvicorn.Config(
            self._application(parts), log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="endpoint"
        )
        thread.start()
        self._resources.callback(thread.join)
        self._resources.callback(setattr, self._server, "should_exit", True)

    def close(self) -> None:
        """End the endpoint, the running jobs and the object store, in this order."""
        self._resources.close()
        if self._socket:
            self._socket.close()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        listening = socket.socket(family)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.settings.host, self.settings.port))
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        return listening

    def _build(self, url: str) -> _Parts:
        settings = self.settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        keys = (settings.access_key, settings.secret_key.get_secret_value())
        if settings.s3_endpoint is None:
            embedded = self._resources.enter_context(EmbeddedStore(settings.state_dir, *keys))
            objects = ObjectStore(embedded.endpoint, *keys, settings.region, embedded.trouble)
        else:
            objects = ObjectStore(settings.s3_endpoint, *keys, settings.region)
        database = Database(settings.state_dir / "emulator.sqlite3", _SCHEMA)
        self._resources.callback(database.close)
        measured = Database(settings.state_dir / "metrics.sqlite3", METRIC_MIGRATIONS)
        self._resources.callback(measured.close)
        metrics = MetricStore(measured)
        runtime = ProcessRuntime(
            settings.python,
            url,
            settings.state_dir,
            answer=self._doors.open,
            share_network=settings.process_network == "host",
        )
        if runtime.verdict.features is None:
            _log.warning("%s. %s", runtime.verdict.reason, runtime.verdict.remedy)
        records = JobStore(database)
        streams = LogStore(settings.state_dir / "logs")
        catalog = load_catalog(settings.instance_types)
        capacity = self._capacity(database, catalog, runtime.traits)
        faults = FaultBook(settings.faults)
        reports, kept = JobReports(records, streams), settings.state_dir / "kept"
        supervisor = Supervisor(
            Workshop(
                store=records,
                logs=streams,
                runtime=runtime,
                capacity=capacity,
                inputs=DisturbedInputs(S3Inputs(objects), faults),
                outputs=DisturbedOutputs(S3Outputs(objects), faults),
                syncs=S3Syncs(objects, reports, kept, settings.sync_seconds),
                credentials=Credentials(*keys),
                directory=settings.state_dir / "jobs",
                stop_grace=settings.stop_grace_seconds,
                nccl_preset=settings.nccl_preset,
                idle_seconds=settings.idle_seconds,
                spot_notice=settings.spot_notice_seconds,
                keep_directories=settings.keep_directories,
                faults=faults,
                metrics=metrics,
                system_metrics_seconds=settings.system_metrics_seconds,
            )
        )
        self._resources.callback(supervisor.shutdown)
        return _Parts(
            supervisor,
            records,
            streams,
            metrics,
            runtime,
            capacity,
            catalog,
            S3Proxy(objects.endpoint, *keys, faults),
            objects.endpoint,
            faults,
        )

    def _capacity(self, database: Database, catalog: Catalog, traits: RuntimeTraits) -> GpuCapacity:
        """What jobs share, with everything given back that an earlier run had leased."""
        settings = self.settings
        capacity = GpuCapacity(
            leases.LeaseBook(database),
            surveyor(settings.gpu_inventory),
            this_machine(),
            catalog,
            Rules(
                gpu_policy=settings.gpu_policy,
                use_busy_gpus=settings.use_busy_gpus,
                max_jobs=settings.max_jobs,
                max_gpus=settings.max_gpus,
                overcommit=settings.overcommit,
            ),
            fixed_ports if traits.shares_ports else lambda _: (),
        )
        # No instance outlives the emulator yet: whatever was leased is free.
        capacity.recover(())
        return capacity

    def _application(self, parts: _Parts) -> FastAPI:
        @asynccontextmanager
        async def lifespan(itself: FastAPI) -> AsyncIterator[None]:
            self._doors.attach(itself)
            yield
            await parts.s3.aclose()

        application = FastAPI(
            title="sagemaker-emulator", lifespan=lifespan, openapi_url=None, docs_url=None
        )

        @application.get("/_emulator/health")
        def health() -> dict[str, Any]:
            return self._health(parts)

        @application.get("/_emulator/gpus")
        def gpus() -> dict[str, Any]:
            return parts.capacity.holdings()

        application.include_router(routes(parts.faults, parts.supervisor, self.settings))
        roles = Roles(self.settings)
        services = {
            "sagemaker": {
                **training_jobs.operations(parts.supervisor, parts.records, parts.metrics, roles),
                **job_updates.operations(parts.supervisor, parts.records),
                **tags.operations(parts.records),
                **search.operations(parts.records),
            },
            "logs": {**logs.operations(parts.logs), **log_writes.operations(parts.logs)},
            "cloudwatch": cloudwatch.operations(parts.metrics),
            "sagemaker-metrics": sagemaker_metrics.operations(parts.metrics),
            "sts": sts.operations(self.settings),
            "iam": iam.operations(self.settings, roles),
            "ecr": ecr.operations(),
        }
        application.mount(
            "/",
            Gateway(
                services,
                parts.s3,
                self.settings,
                disturb_operations(parts.faults),
                lambda name: parts.catalog.find(name) is not None,
            ),
        )
        return application

    def _health(self, parts: _Parts) -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "runtime": {"name": parts.runtime.traits.name, "reason": parts.runtime.verdict.reason},
            "object_store": {
                "kind": "external" if self.settings.s3_endpoint else "embedded",
                "endpoint": parts.s3_endpoint,
            },
            "state_dir": str(self.settings.state_dir),
            "account": self.settings.account,
            "region": self.settings.region,
            "jobs": {"running": parts.supervisor.running()},
        }
