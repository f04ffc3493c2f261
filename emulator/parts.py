"""Makes the parts of an emulator and hands each what it needs; nothing here runs by itself."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from docker.errors import DockerException

from emulator.aws.front.process import StoreAccess
from emulator.aws.invocations import queue_store
from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.queue_store import QueueStore
from emulator.data.cache.objects import ObjectCache
from emulator.data.inputs import Sources
from emulator.data.inputs.fuse import sweep_mounts
from emulator.data.objectstore.availability import Availability
from emulator.data.objectstore.disk_reserve import Reserve
from emulator.data.objectstore.embedded import PAGE_SIZE, EmbeddedStore
from emulator.data.objectstore.objects import ObjectStore
from emulator.data.objectstore.transfer import Downloader
from emulator.data.objectstore.weed import key_problem
from emulator.data.private_directory import make_private
from emulator.data.state_lock import LOCK_FILE, StateLock
from emulator.database import Database
from emulator.drivers.aws_hosts import refusal
from emulator.drivers.choice import Runtimes
from emulator.drivers.docker.awaited import AwaitedDocker, Docker
from emulator.drivers.docker.driver import DockerRuntime
from emulator.drivers.docker.engine import (
    ENGINE_GONE,
    Engine,
    connect,
    inspect_engine,
    listen_addresses,
)
from emulator.drivers.docker.requests import LABEL_EMULATOR
from emulator.drivers.forward_proxy import ForwardProxy
from emulator.drivers.host_settings import HostSettings, needs_relay, of_this_machine
from emulator.drivers.images.resolution import Images
from emulator.drivers.process.driver import ProcessRuntime
from emulator.model.errors import SetupError
from emulator.placement import leases
from emulator.placement.gpu_capacity import GpuCapacity
from emulator.placement.gpus import load_reader, surveyor
from emulator.placement.instance_types import Catalog, load_catalog
from emulator.placement.ledger import Rules
from emulator.placement.machine import Machine, this_machine
from emulator.resources import KINDS
from emulator.resources.hosting import read_deployment
from emulator.settings import Settings
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.store import MIGRATIONS as METRIC_MIGRATIONS
from emulator.telemetry.metrics.store import MetricStore
from emulator.workloads.fault_book import FaultBook
from emulator.workloads.fault_injection import DisturbedInputs, DisturbedOutputs
from emulator.workloads.machine_watch import IdlePolicy, MachineWatch
from emulator.workloads.plan.job_plan import Credentials
from emulator.workloads.retention import Retention
from emulator.workloads.run.context import RunContext
from emulator.workloads.run.supervisor import Supervisor
from emulator.workloads.serving import store as hosting_store
from emulator.workloads.serving.context import ServingContext
from emulator.workloads.serving.endpoints import Endpoints
from emulator.workloads.serving.model_data import ModelStore
from emulator.workloads.serving.routes import Routes
from emulator.workloads.serving.store import HostingStore
from emulator.workloads.store.runs import MIGRATIONS, JobStore
from emulator.workloads.transfers.checkpoint_sync import S3Syncs
from emulator.workloads.transfers.inputs_outputs import S3Inputs, S3Outputs
from emulator.workloads.transfers.reports import JobReports

OpenDoor = Callable[[socket.socket], Callable[[], None]]
"""Answers requests on one more socket; what it returns ends that."""

SCHEMA = (
    *MIGRATIONS[:2],
    leases.MIGRATION,
    *MIGRATIONS[2:],
    hosting_store.MIGRATION,
    queue_store.MIGRATION,
)
"""Scripts are applied by their place: a new one goes to the end."""

_BACKLOG = 2048
_DATABASE = "emulator.sqlite3"
_PORT_PAUSE = 0.05
_STORE_PATIENCE = 20.0
"""Seconds that S3 requests wait for a store that refuses connections: it may be starting again."""
_CLIENT_FILES = "client"
"""The command line may have put them there before the first start."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What answers requests, once everything is started."""

    supervisor: Supervisor
    endpoints: Endpoints
    hosting: HostingStore
    routes: Routes
    records: JobStore
    logs: LogStore
    metrics: MetricStore
    runtimes: Runtimes
    capacity: GpuCapacity
    catalog: Catalog
    objects: ObjectStore
    invocation_metrics: InvocationMetrics
    queue: QueueStore
    """Of asynchronous endpoints."""
    machine: Machine
    s3: StoreAccess
    availability: Availability
    faults: FaultBook
    retention: Retention
    cache: ObjectCache
    watch: MachineWatch
    addresses: tuple[str, ...]
    """Where to listen beside the address of the settings, for containers."""
    state_dir: Path
    """The state directory as this machine has it, also where the emulator is in a container."""


def build(settings: Settings, url: str, door: OpenDoor, resources: ExitStack) -> Parts:
    """Start the object store and put everything together; `resources` ends it all.

    `url` is where the emulator itself will answer. Raises SetupError.
    """
    make_private(settings.state_dir, (_DATABASE, _CLIENT_FILES))
    reserve = Reserve(settings.state_dir, settings.reserve_megabytes << 20)
    reserve.release_to_start()
    keys = (settings.access_key, settings.secret_key.get_secret_value())
    # Before anything else is touched: what another emulator's jobs use there is not ours.
    resources.callback(StateLock.take(settings.state_dir / LOCK_FILE).release)
    embedded = _begin_store(settings, keys, resources)
    database = Database(settings.state_dir / _DATABASE, SCHEMA, reserve.make_room)
    resources.callback(database.close)
    measured = Database(
        settings.state_dir / "metrics.sqlite3", METRIC_MIGRATIONS, reserve.make_room
    )
    resources.callback(measured.close)
    records, metrics = JobStore(database, KINDS), MetricStore(measured)
    catalog = load_catalog(settings.instance_types)
    docker, found = _find_docker(settings, url, door, resources, records, catalog)
    runtimes = _runtimes(settings, url, door, docker)
    streams = LogStore(settings.state_dir / "logs")
    capacity = _capacity(settings, database, catalog, runtimes, found)
    faults = FaultBook(settings.faults)
    objects, availability = _objects(settings, keys, embedded)
    cache = ObjectCache(settings.state_dir / "cache", int(settings.cache_gigabytes * 1e9))
    resources.callback(cache.close)
    reports, kept = JobReports(records, streams), settings.state_dir / "kept"
    state_dir = settings.state_dir.absolute()
    credentials = Credentials(*keys, account=settings.account)
    sources = _sources(settings, objects, cache)
    supervisor = Supervisor(
        RunContext(
            store=records,
            logs=streams,
            runtimes=runtimes,
            capacity=capacity,
            inputs=DisturbedInputs(S3Inputs(sources), faults),
            outputs=DisturbedOutputs(S3Outputs(objects.patient(), reports, kept), faults),
            syncs=S3Syncs(objects, reports, kept, settings.sync_seconds),
            credentials=credentials,
            directory=settings.state_dir / "jobs",
            stop_grace=settings.stop_grace_seconds,
            nccl_preset=settings.nccl_preset,
            idle_seconds=settings.idle_seconds,
            spot_notice=settings.spot_notice_seconds,
            leaves_instances=settings.leave_jobs,
            keep_directories=settings.keep_directories,
            faults=faults,
            availability=availability,
            metrics=metrics,
            system_metrics_seconds=settings.system_metrics_seconds,
        )
    )
    hosting = HostingStore(database, read_deployment)
    endpoints = Endpoints(
        ServingContext(
            store=hosting,
            logs=streams,
            runtimes=runtimes,
            capacity=capacity,
            models=ModelStore(sources),
            credentials=credentials,
            directory=settings.state_dir / "endpoints",
            routes=Routes(),
            leaves_instances=settings.leave_jobs,
        )
    )
    resources.callback(endpoints.shutdown)
    resources.callback(supervisor.shutdown)
    invocation_metrics = InvocationMetrics(metrics)
    invocation_metrics.start()
    resources.callback(invocation_metrics.close)
    retention = Retention(
        settings.state_dir,
        streams,
        metrics,
        leases.LeaseBook(database),
        days=settings.retention_days,
        kept_bytes=int(settings.kept_gigabytes * 1e9),
        now=time.time,
    )
    resources.callback(retention.close)
    watch = MachineWatch(
        load_reader(settings.gpu_inventory),
        capacity.leases,
        supervisor.stop,
        records,
        streams,
        IdlePolicy(settings.gpu_idle_seconds, stop=settings.gpu_idle_action == "stop"),
    )
    resources.callback(watch.close)
    return Parts(
        supervisor=supervisor,
        endpoints=endpoints,
        hosting=hosting,
        routes=endpoints.routes,
        records=records,
        logs=streams,
        metrics=metrics,
        runtimes=runtimes,
        capacity=capacity,
        catalog=catalog,
        objects=objects,
        invocation_metrics=invocation_metrics,
        queue=QueueStore(database),
        s3=StoreAccess(
            objects.endpoint,
            *keys,
            _STORE_PATIENCE,
            str(embedded.directory) if embedded else "",
        ),
        machine=_machine(found),
        availability=availability,
        faults=faults,
        retention=retention,
        cache=cache,
        watch=watch,
        addresses=listen_addresses(found.engine) if found else (),
        state_dir=found.engine.own_mounts.outside(state_dir) if found else state_dir,
    )


def _begin_store(
    settings: Settings, keys: tuple[str, str], resources: ExitStack
) -> EmbeddedStore | None:
    """The embedded store, if it is used; it comes up while the other parts are made."""
    if settings.s3_endpoint is not None:
        return None
    embedded = EmbeddedStore(settings.state_dir, *keys)
    embedded.begin()
    resources.callback(embedded.stop)
    return embedded


def _objects(
    settings: Settings, keys: tuple[str, str], embedded: EmbeddedStore | None
) -> tuple[ObjectStore, Availability]:
    """The object store, which answers, and what is known of that."""
    if embedded is None:
        endpoint = settings.s3_endpoint or ""
        return ObjectStore(endpoint, *keys, settings.region), Availability()
    embedded.wait()
    objects = ObjectStore(
        embedded.endpoint,
        *keys,
        settings.region,
        embedded.trouble,
        embedded.no_space,
        page_size=PAGE_SIZE,
        key_problem=key_problem,
    )
    return objects, embedded.availability


def _sources(settings: Settings, objects: ObjectStore, cache: ObjectCache) -> Sources:
    """Where input data comes from, with what a killed emulator left mounted removed."""
    scratch = settings.state_dir / "scratch"
    sweep_mounts(scratch)
    return Sources(Downloader(objects), cache, scratch, settings.file_systems)


def listen(host: str, port: int, patience: float = 0) -> socket.socket:
    """A socket that takes connections there.

    A port that is taken is tried again for `patience` seconds. Raises OSError.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise
        time.sleep(_PORT_PAUSE)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off (40 ms an answer) only where the protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def listens_everywhere(host: str) -> bool:
    """Whether that address stands for all of this machine's."""
    return host in ("0.0.0.0", "::")  # noqa: S104


def _find_docker(
    settings: Settings,
    url: str,
    door: OpenDoor,
    resources: ExitStack,
    records: JobStore,
    catalog: Catalog,
) -> tuple[AwaitedDocker | None, Docker | None]:
    """The docker runtime unless the settings rule it out, and its engine if that answers.

    Raises SetupError where the user wants containers, no engine answers, and no job waits
    for one.
    """
    if settings.runtime == "process":
        return None, None
    port = urlsplit(url).port or settings.port

    def open_late(engine: Engine) -> None:
        if listens_everywhere(settings.host):
            return
        for address in set(listen_addresses(engine)) - {settings.host}:
            listening = listen(address, port)
            try:
                resources.callback(door(listening))
            except BaseException:
                listening.close()
                raise

    def memory_of(instance_type: str) -> int | None:
        known = catalog.find(instance_type) if settings.enforce_memory else None
        return known.memory_mib << 20 if known and known.memory_mib else None

    docker = AwaitedDocker(
        lambda closing: _connect(settings, port, closing, resources, memory_of), open_late
    )
    found = docker.start()
    if found is None and settings.runtime == "docker":
        jobs = records.unfinished()
        if not any(job.runtime in ("docker", None) for job in jobs):
            docker.stop_waiting()
            connect()  # raises SetupError, unless the engine answers by now
            return _find_docker(settings, url, door, resources, records, catalog)
    return docker, found


def _host_settings(
    settings: Settings, engine: Engine, port: int, resources: ExitStack
) -> HostSettings:
    """What containers get of this machine's network settings."""
    if not settings.share_network_settings:
        return HostSettings()
    addresses = listen_addresses(engine)
    if not needs_relay(os.environ) or not addresses:
        return of_this_machine(local=bool(addresses))
    # Containers do not reach this machine's loopback interface, where its proxy listens.
    listening = listen(addresses[0], 0)
    relay = f"http://{engine.emulator_host}:{listening.getsockname()[1]}"
    refuse = partial(refusal, reach=settings.jobs_reach_aws)
    resources.callback(ForwardProxy(listening, os.environ, port, refuse=refuse).close)
    return of_this_machine(relay, local=True)


def _connect(
    settings: Settings,
    port: int,
    closing: threading.Event,
    resources: ExitStack,
    memory_of: Callable[[str], int | None],
) -> Docker:
    """Raises SetupError where no engine answers."""
    client = connect()
    try:
        engine = inspect_engine(client)
    except (DockerException, *ENGINE_GONE) as error:
        raise SetupError(f"The Docker engine does not answer: {error}.") from error
    # Containers are found again by it after a restart on the same state directory.
    state_dir = engine.own_mounts.outside(settings.state_dir.resolve())
    owner = hashlib.sha256(str(state_dir).encode()).hexdigest()[:16]
    images = Images(client, settings.image_map, {LABEL_EMULATOR: owner})
    runtime = DockerRuntime(
        client,
        engine,
        images,
        port=port,
        emulator=owner,
        memory_of=memory_of,
        closing=closing,
        host=_host_settings(settings, engine, port, resources),
        reaches_aws=settings.jobs_reach_aws == "all",
    )
    return Docker(client, engine, images, runtime)


def _runtimes(
    settings: Settings, url: str, door: OpenDoor, docker: AwaitedDocker | None
) -> Runtimes:
    if settings.runtime == "docker":
        return Runtimes(None, docker, docker, "set by the user")
    process = ProcessRuntime(
        settings.python,
        url,
        settings.state_dir,
        answer=door,
        share_network=settings.process_network == "host",
        hide=(settings.config,) if settings.config else (),
        show=settings.sandbox_show,
        reach_aws=settings.jobs_reach_aws,
    )
    verdict = process.verdict
    reasons = [] if docker else ["set by the user"]
    if verdict.features is None:
        _log.warning("%s. %s", verdict.reason, verdict.remedy)
        reasons.append(verdict.reason)
    return Runtimes(process, docker, docker, "; ".join(reasons))


def _machine(docker: Docker | None) -> Machine:
    """What jobs share: a limit of the emulator's own container is no limit of its jobs'."""
    if docker and docker.engine.own_container:
        return Machine(docker.engine.cores, docker.engine.memory_bytes >> 20)
    return this_machine()


def _capacity(
    settings: Settings,
    database: Database,
    catalog: Catalog,
    runtimes: Runtimes,
    docker: Docker | None,
) -> GpuCapacity:
    """What jobs share; the supervisor settles what an earlier run had leased."""
    shares_ports = any(runtime.traits.shares_ports for runtime in runtimes.all)
    return GpuCapacity(
        leases.LeaseBook(database),
        surveyor(settings.gpu_inventory, tuple(docker.engine.cdi_devices) if docker else ()),
        _machine(docker),
        catalog,
        Rules(
            gpu_policy=settings.gpu_policy,
            use_busy_gpus=settings.use_busy_gpus,
            max_jobs=settings.max_jobs,
            max_gpus=settings.max_gpus,
            overcommit=settings.overcommit,
        ),
        (lambda spec: spec.ports) if shares_ports else lambda _: (),
    )
