"""Makes the parts of an emulator and hands each what it needs; nothing here runs by itself."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from docker.client import DockerClient

from emulator.aws.s3_proxy import S3Proxy
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
from emulator.runtimes.choice import Runtimes
from emulator.runtimes.docker import DockerRuntime
from emulator.runtimes.docker_engine import Engine, connect, inspect_engine, listen_addresses
from emulator.runtimes.images import Images
from emulator.runtimes.process import ProcessRuntime
from emulator.settings import Settings
from emulator.storage.cache import ObjectCache
from emulator.storage.channels import Sources
from emulator.storage.embedded import PAGE_SIZE, EmbeddedStore
from emulator.storage.fuse import sweep_mounts
from emulator.storage.lock import StateLock
from emulator.storage.objects import ObjectStore
from emulator.storage.private import make_private
from emulator.storage.transfer import Downloader

OpenDoor = Callable[[socket.socket], Callable[[], None]]
"""Answers requests on one more socket; what it returns ends that."""

SCHEMA = (*MIGRATIONS[:2], leases.MIGRATION, *MIGRATIONS[2:])
"""Scripts are applied by their place: a new one goes to the end."""

_DATABASE = "emulator.sqlite3"
_CLIENT_FILES = "client"
"""The command line may have put them there before the first start."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What answers requests, once everything is started."""

    supervisor: Supervisor
    records: JobStore
    logs: LogStore
    metrics: MetricStore
    runtimes: Runtimes
    capacity: GpuCapacity
    catalog: Catalog
    s3: S3Proxy
    s3_endpoint: str
    faults: FaultBook
    addresses: tuple[str, ...]
    """Where to listen beside the address of the settings, for containers."""


@dataclass(frozen=True)
class _Docker:
    """A Docker engine that answers."""

    client: DockerClient
    engine: Engine
    images: Images


def build(settings: Settings, url: str, door: OpenDoor, resources: ExitStack) -> Parts:
    """Start the object store and put everything together; `resources` ends it all.

    `url` is where the emulator itself will answer. Raises SetupError.
    """
    make_private(settings.state_dir, (_DATABASE, _CLIENT_FILES))
    keys = (settings.access_key, settings.secret_key.get_secret_value())
    # Before anything else is touched: what another emulator's jobs use there is not ours.
    resources.callback(StateLock.take(settings.state_dir / "emulator.lock").release)
    objects = _objects(settings, keys, resources)
    database = Database(settings.state_dir / _DATABASE, SCHEMA)
    resources.callback(database.close)
    measured = Database(settings.state_dir / "metrics.sqlite3", METRIC_MIGRATIONS)
    resources.callback(measured.close)
    engine, why_none = _find_docker(settings)
    runtimes = _runtimes(settings, url, door, engine, why_none)
    records, metrics = JobStore(database), MetricStore(measured)
    streams = LogStore(settings.state_dir / "logs")
    catalog = load_catalog(settings.instance_types)
    capacity = _capacity(settings, database, catalog, runtimes, engine)
    faults = FaultBook(settings.faults)
    reports, kept = JobReports(records, streams), settings.state_dir / "kept"
    supervisor = Supervisor(
        Workshop(
            store=records,
            logs=streams,
            runtimes=runtimes,
            capacity=capacity,
            inputs=DisturbedInputs(S3Inputs(_sources(settings, objects, resources)), faults),
            outputs=DisturbedOutputs(S3Outputs(objects.patient(), reports, kept), faults),
            syncs=S3Syncs(objects, reports, kept, settings.sync_seconds),
            credentials=Credentials(*keys, account=settings.account),
            directory=settings.state_dir / "jobs",
            stop_grace=settings.stop_grace_seconds,
            nccl_preset=settings.nccl_preset,
            idle_seconds=settings.idle_seconds,
            spot_notice=settings.spot_notice_seconds,
            leaves_instances=settings.leave_containers,
            keep_directories=settings.keep_directories,
            faults=faults,
            metrics=metrics,
            system_metrics_seconds=settings.system_metrics_seconds,
        )
    )
    resources.callback(supervisor.shutdown)
    return Parts(
        supervisor=supervisor,
        records=records,
        logs=streams,
        metrics=metrics,
        runtimes=runtimes,
        capacity=capacity,
        catalog=catalog,
        s3=S3Proxy(objects.endpoint, *keys, faults),
        s3_endpoint=objects.endpoint,
        faults=faults,
        addresses=listen_addresses(engine.engine) if engine else (),
    )


def _objects(settings: Settings, keys: tuple[str, str], resources: ExitStack) -> ObjectStore:
    if settings.s3_endpoint is not None:
        return ObjectStore(settings.s3_endpoint, *keys, settings.region)
    embedded = resources.enter_context(EmbeddedStore(settings.state_dir, *keys))
    return ObjectStore(
        embedded.endpoint, *keys, settings.region, embedded.trouble, page_size=PAGE_SIZE
    )


def _sources(settings: Settings, objects: ObjectStore, resources: ExitStack) -> Sources:
    """Where input data comes from, with what a killed emulator left mounted removed."""
    cache = ObjectCache(settings.state_dir / "cache", int(settings.cache_gigabytes * 1e9))
    resources.callback(cache.close)
    scratch = settings.state_dir / "scratch"
    sweep_mounts(scratch)
    return Sources(Downloader(objects), cache, scratch, settings.file_systems)


def _find_docker(settings: Settings) -> tuple[_Docker | None, str]:
    """The engine, unless the settings rule it out or, on `auto`, there is none; and why not."""
    if settings.runtime == "process":
        return None, "set by the user"
    try:
        client = connect()
    except SetupError:
        if settings.runtime == "docker":
            raise
        return None, "no Docker engine answers"
    return _Docker(client, inspect_engine(client), Images(client, settings.image_map)), ""


def _runtimes(
    settings: Settings, url: str, door: OpenDoor, engine: _Docker | None, why_none: str
) -> Runtimes:
    docker = _docker_runtime(settings, url, engine) if engine else None
    if settings.runtime == "docker" and docker:
        return Runtimes(None, docker, engine.images if engine else None, "set by the user")
    process = ProcessRuntime(
        settings.python,
        url,
        settings.state_dir,
        answer=door,
        share_network=settings.process_network == "host",
    )
    verdict = process.verdict
    if verdict.features is None:
        _log.warning("%s. %s", verdict.reason, verdict.remedy)
        why_none = f"{why_none}; {verdict.reason}"
    return Runtimes(process, docker, engine.images if engine else None, why_none)


def _docker_runtime(settings: Settings, url: str, engine: _Docker) -> DockerRuntime:
    # Containers are found again by it after a restart on the same state directory.
    owner = hashlib.sha256(str(settings.state_dir.resolve()).encode()).hexdigest()[:16]
    port = urlsplit(url).port or settings.port
    return DockerRuntime(engine.client, engine.engine, engine.images, port=port, emulator=owner)


def _capacity(
    settings: Settings,
    database: Database,
    catalog: Catalog,
    runtimes: Runtimes,
    engine: _Docker | None,
) -> GpuCapacity:
    """What jobs share; the supervisor settles what an earlier run had leased."""
    shares_ports = any(runtime.traits.shares_ports for runtime in runtimes.all)
    return GpuCapacity(
        leases.LeaseBook(database),
        surveyor(settings.gpu_inventory, tuple(engine.engine.cdi_devices) if engine else ()),
        this_machine(),
        catalog,
        Rules(
            gpu_policy=settings.gpu_policy,
            use_busy_gpus=settings.use_busy_gpus,
            max_jobs=settings.max_jobs,
            max_gpus=settings.max_gpus,
            overcommit=settings.overcommit,
        ),
        fixed_ports if shares_ports else lambda _: (),
    )
