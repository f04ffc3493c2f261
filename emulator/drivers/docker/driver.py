"""The docker runtime: one container an instance, one bridge network a job."""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Event

from docker.client import DockerClient
from docker.errors import APIError, DockerException

from emulator.drivers.base import OutputSink
from emulator.drivers.docker.engine import Engine, side_by_side
from emulator.drivers.docker.errors import job_error
from emulator.drivers.docker.fleet import DockerFleet, end_job, remove_in_time
from emulator.drivers.docker.gpus import check_gpus
from emulator.drivers.docker.networks import create_network, join_networks
from emulator.drivers.docker.pause_containers import Keepers
from emulator.drivers.docker.requests import (
    JOB_KEY,
    LABEL_ARN,
    LABEL_EMULATOR,
    LABEL_GLANCE,
    LABEL_HOST,
    LABEL_INSTANCES,
    LABEL_POOL,
    LISTING,
    RUN_DIR,
    STARTED,
    JobRequest,
    Placement,
    job_request,
    placement_name,
    run_dir,
    sees_peers_gpus,
)
from emulator.drivers.docker.retry import patiently
from emulator.drivers.host_settings import CA_BUNDLE, HostSettings
from emulator.drivers.images.resolution import CANNOT_PULL, Images
from emulator.drivers.nvidia_devices import list_only
from emulator.drivers.scratch_files import write_command
from emulator.model.errors import ClientError, JobError, NotBuilt
from emulator.model.plan import JobPlan, RuntimeTraits

log = logging.getLogger(__name__)

NETWORK_INTERFACE = "eth0"
COMMAND_FAILED = (126, 127)
"""Exit codes the engine gives to a command that cannot be executed, or is not there."""
_NVIDIA_SMI = "/usr/bin/nvidia-smi"
"""Where the NVIDIA container toolkit puts it."""


_FORESEEN = (DockerException, JobError, OSError, RuntimeError)
"""Errors of ENGINE_GONE are OSErrors; there being no more threads is a RuntimeError."""


class _LimitRefused(Exception):
    """The engine cannot give a container the resource limits that were asked for."""


def check_image(image: str | None) -> None:
    """Anything with an image can run: any number of instances, isolated or not."""
    if image is None:
        raise NotBuilt("A training job by AlgorithmName cannot run here: name a TrainingImage.")


class DockerRuntime:
    """Instances as containers of a Docker engine."""

    def __init__(
        self,
        client: DockerClient,
        engine: Engine,
        images: Images,
        *,
        port: int,
        emulator: str,
        memory_of: Callable[[str], int | None] = lambda _: None,
        closing: Event | None = None,
        host: HostSettings | None = None,
        reaches_aws: bool = True,
    ):
        """`port` is the emulator's; `emulator` marks what belongs to it, restarts included.

        `memory_of` gives the most bytes of memory for an instance type; None is no limit.
        `closing` is set when the emulator ends: an engine that is away is not waited for then.
        `host` is what containers get of this machine's settings; nothing without it.
        With `reaches_aws` nothing keeps the SDKs' own calls from AWS.
        """
        self._reaches_aws = reaches_aws
        self._host = host or HostSettings()
        self._closing = closing or Event()
        self._client = client
        self._engine = engine
        self._images = images
        self._port = port
        self._emulator = emulator
        self._memory_of = memory_of
        self._lock_memory = True
        self._keepers = Keepers(client, engine, emulator, self._closing)

    @property
    def traits(self) -> RuntimeTraits:
        return RuntimeTraits(
            name="docker",
            network_interface=NETWORK_INTERFACE,
            emulator_url=f"http://{self._engine.emulator_host}:{self._port}",
            engine=True,
            overlays=self._engine.mounts_layers,
            sees_mounts=self._engine.own_container is None,
        )

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:  # noqa: ARG002
        """See check_image()."""
        check_image(image)

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        if image is None:
            raise ClientError(CANNOT_PULL)
        self._images.prepare(image, say, cancelled)

    def launch(self, plan: JobPlan, sink: OutputSink) -> DockerFleet:
        try:
            return self._launch(plan, sink)
        except _LimitRefused:
            if self._lock_memory:
                log.warning(
                    "The Docker engine may not raise the limit of locked memory (rootless, or "
                    "itself in a container): jobs run with the limit it has"
                )
            self._lock_memory = False
            return self._launch(plan, sink)

    def _launch(self, plan: JobPlan, sink: OutputSink) -> DockerFleet:
        """Raises JobError or _LimitRefused, leaving nothing behind."""
        lock_memory = self._lock_memory  # another job's launch may change it meanwhile
        try:
            placement = self._keepers.place(plan, self._placement(plan, lock_memory))
            request = job_request(plan, placement)
            _tell(plan, self._host.files)
            containers = self._create(request)
        except BaseException as error:
            self.remove(plan.arn)
            if isinstance(error, _FORESEEN):
                raise job_error(error) from error
            raise
        fleet = self._fleet(plan.arn, containers, sink, _runs(plan))
        try:
            self._start(fleet, containers)
            check_gpus(self._client, plan, containers)
            _let_go(_runs(plan))
        except BaseException as error:
            fleet.close()
            if lock_memory and "setting rlimit" in str(error):
                raise _LimitRefused from error
            if isinstance(error, _FORESEEN):
                raise job_error(error) from error
            raise
        return fleet

    def adopt(
        self, arn: str, sink: OutputSink, received: Mapping[str, int] | None = None
    ) -> DockerFleet | None:
        """Take over the containers of a job that an earlier run of this emulator started.

        `received` tells how many bytes of each host's output are known already: the sink
        gets what follows them. None when the job has no complete set of containers; what
        there is of it is removed then. An engine that is away is waited for. Raises
        JobError when the engine refuses, and Unreachable when the emulator ends.
        """
        try:
            return patiently(lambda: self._adopt(arn, sink, received), self._closing)
        except DockerException as error:
            raise job_error(error) from error

    def _adopt(
        self, arn: str, sink: OutputSink, received: Mapping[str, int] | None
    ) -> DockerFleet | None:
        instances = {"label": [*self._labels(arn), LABEL_HOST]}
        found = self._client.api.containers(all=True, filters=instances)
        started = {
            container["Labels"][LABEL_HOST]: container["Id"]
            for container in found
            if container["State"] != "created"
        }
        wanted = {int(container["Labels"][LABEL_INSTANCES]) for container in found}
        if wanted != {len(started)}:
            self.remove(arn)
            return None
        run_dirs = [
            self._engine.own_mounts.inside(Path(mount["Source"]))
            for container in found
            for mount in container["Mounts"]
            if mount["Destination"] == RUN_DIR
        ]
        pools = {container["Labels"].get(LABEL_POOL) for container in found} - {None}
        for labels in (self._labels(arn), *map(self._keepers.labels, pools)):
            join_networks(self._client, self._engine, labels)
        fleet = self._fleet(arn, started, sink, run_dirs, received)
        try:
            for host in started:
                fleet.watch(host)
            _let_go(run_dirs)
        except RuntimeError as error:  # there can be no more threads now
            fleet.leave()
            raise OSError(errno.EAGAIN, str(error)) from error
        except BaseException:
            fleet.leave()
            raise
        return fleet

    def clean(self, keep: Collection[str] = ()) -> None:
        """Remove this emulator's containers and networks of all jobs but those of these ARNs.

        Of warm pools there stays what these jobs run in. Raises DockerException, and what
        requests raises, where the engine does not say what there is.
        """
        left = self._left()
        in_use = {labels.get(LABEL_POOL) for labels in left if labels.get(LABEL_ARN) in keep}
        for arn in {labels[LABEL_ARN] for labels in left if LABEL_ARN in labels} - set(keep):
            self.remove(arn)
        own = f"{LABEL_EMULATOR}={self._emulator}"
        remove_in_time(self._client, [own, LABEL_GLANCE], self._closing)
        for pool in {labels[LABEL_POOL] for labels in left if LABEL_POOL in labels} - in_use:
            self.release(pool)

    def release(self, pool: str) -> None:
        """See Keeps in base.py."""
        self._keepers.release(pool)

    def _left(self) -> list[Mapping[str, str]]:
        """The labels of all that the engine has of this emulator's."""
        label = {"label": f"{LABEL_EMULATOR}={self._emulator}"}
        containers = self._client.api.containers(all=True, filters=label)
        networks = self._client.api.networks(filters=label)
        return [found["Labels"] for found in (*containers, *networks)]

    def _fleet(
        self,
        arn: str,
        containers: Mapping[str, str],
        sink: OutputSink,
        run_dirs: Sequence[Path],
        received: Mapping[str, int] | None = None,
    ) -> DockerFleet:
        return DockerFleet(
            self._client,
            self._labels(arn),
            containers,
            sink,
            run_dirs,
            received,
            foreign_root=self._engine.foreign_root,
            closing=self._closing,
        )

    def _labels(self, arn: str) -> list[str]:
        return [f"{LABEL_EMULATOR}={self._emulator}", f"{LABEL_ARN}={arn}"]

    def _placement(self, plan: JobPlan, lock_memory: bool) -> Placement:
        gpus = tuple(gpu for instance in plan.instances for gpu in instance.gpus)
        wanted = {instance.image for instance in plan.instances if instance.image}
        return Placement(
            name=placement_name(plan.job, secrets.token_hex(4)),
            emulator=self._emulator,
            images={image: self._images.local(image) for image in wanted},
            # A tmpfs takes only what is written to it: half the memory, as Linux's own default.
            shm_bytes=self._engine.memory_bytes // 2,
            gpu_driver=self._engine.gpu_driver(gpus),
            host_gateway=self._engine.own_container is None,
            memory_bytes={
                instance.host: limit
                for instance in plan.instances
                if (limit := self._memory_of(instance.instance_type)) is not None
            },
            own_mounts=self._engine.own_mounts,
            lock_memory=lock_memory,
            reaches_aws=self._reaches_aws,
            host_mounts=tuple(one for one in self._host.mounts if one.source.exists()),
            host_environment=self._host.for_job(
                (self._engine.emulator_host, *plan.hosts), isolated=plan.network_isolation
            ),
        )

    def _create(self, request: JobRequest) -> dict[str, str]:
        """Returns the ids of the containers by host."""
        if request.network:
            create_network(self._client, self._engine, request.network)
        if request.volume:
            self._client.api.create_volume(**request.volume)
        return {
            container.host: self._client.api.create_container_from_config(
                container.body, container.name
            )["Id"]
            for container in request.containers
        }

    def _start(self, fleet: DockerFleet, containers: Mapping[str, str]) -> None:
        """All at once: a launcher backs off for seconds from a peer it cannot find yet."""
        side_by_side(lambda host: self._start_one(fleet, host, containers[host]), containers)

    def _start_one(self, fleet: DockerFleet, host: str, container: str) -> None:
        fleet.attach(host)
        try:
            self._client.api.start(container)
        except APIError:
            state = self._client.api.inspect_container(container)["State"]
            if state["ExitCode"] not in COMMAND_FAILED:
                raise
            # The image has no such command: that is how the instance ends, not a refusal.
            fleet.ended_at_once(host, state["ExitCode"], state["Error"])
        else:
            fleet.watch(host)

    def remove(self, arn: str) -> None:
        """See Lasting in base.py."""
        labels = self._labels(arn)
        if self._engine.foreign_root:
            try:
                patiently(lambda: end_job(self._client, labels, self._closing), self._closing, 0)
            except DockerException as error:
                log.warning("Containers of %s may go on: %s", arn, error)
        remove_in_time(self._client, labels, self._closing)


def _runs(plan: JobPlan) -> tuple[Path, ...]:
    return tuple(run_dir(instance) for instance in plan.instances)


def _let_go(run_dirs: Sequence[Path]) -> None:
    """All containers run: their commands may begin."""
    for directory in run_dirs:
        (directory / STARTED).touch()


def _tell(plan: JobPlan, files: Mapping[str, bytes]) -> None:
    """What the containers find in RUN_DIR.

    One secret for all instances, which the image derives the job's ssh keys from; and for
    those that see their peers' GPUs, which are their own: launchers start a process for each
    GPU that nvidia-smi lists. `files` are there, too.
    """
    secret = secrets.token_bytes(32)
    for instance in plan.instances:
        directory = run_dir(instance)
        directory.mkdir(parents=True, exist_ok=True)
        key = directory / JOB_KEY
        key.touch(mode=0o600)
        key.write_bytes(secret)
        for name, content in files.items():
            # The address of an index may have credentials in it, certificates are no secret.
            (directory / name).touch(mode=0o644 if name == CA_BUNDLE else 0o600)
            (directory / name).write_bytes(content)
        if sees_peers_gpus(plan, instance):
            write_command(directory / LISTING, list_only(instance.gpus, _NVIDIA_SMI))
