"""What stays of the instances of a warm pool: their network, and their places on it.

On the service a pool keeps the instances, and each job runs in new containers on them. Here a
keeper, a container that does nothing, stands for the instance: it has the host name, the address
and the way to the emulator, and the job's own container joins its network namespace. Starting a
container there takes a third of the time of one that needs a network of its own (measured: 0.06 s
against 0.2 s each, and 0.07 s for the network), and removing it is as much quicker.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from threading import Event, Thread
from typing import Any

from docker.client import DockerClient
from docker.errors import APIError, DockerException

from emulator.drivers.docker.engine import ENGINE_GONE, Engine, side_by_side
from emulator.drivers.docker.fleet import remove_in_time, remove_job
from emulator.drivers.docker.networks import create_network
from emulator.drivers.docker.requests import (
    LABEL_EMULATOR,
    LABEL_KEEPER,
    LABEL_POOL,
    SHELL,
    ContainerRequest,
    JobRequest,
    Placement,
    extra_hosts,
    network_body,
)
from emulator.model.plan import JobPlan

_STAY = "while :; do sleep 86400; done"
_log = logging.getLogger(__name__)


class Keepers:
    """The keepers of all warm pools of this emulator. A pool serves one job at a time."""

    def __init__(
        self, client: DockerClient, engine: Engine, emulator: str, closing: Event | None = None
    ):
        """`closing` is set when the emulator ends."""
        self._closing = closing or Event()
        self._client = client
        self._engine = engine
        self._emulator = emulator

    def place(self, plan: JobPlan, placement: Placement) -> Placement:
        """Put the containers where the keepers of the plan's pool are, made now if need be.

        A job without a pool stays as it is, and so does one whose images have no shell to
        keep a place with. Raises DockerException, and what requests raises.
        """
        if not plan.pool:
            return placement
        standing = self._standing(plan.pool)
        if set(standing) == set(plan.hosts):
            return replace(placement, keepers=standing)
        self.release(plan.pool)  # some were removed, or ended with the engine
        if not all(image.has_shell for image in placement.images.values()):
            _log.info("%s: an image without a shell cannot be kept warm", plan.job)
            return placement
        return replace(placement, keepers=self._create(keepers_request(plan, placement)))

    def release(self, pool: str) -> None:
        """Remove what is kept of a pool, in the background where the engine is away.

        Nobody uses the name of a pool again. What cannot be removed goes at the next start.
        """
        try:
            remove_job(self._client, self.labels(pool))
        except APIError as error:
            _log.warning("The containers of a warm pool are left behind: %s", error)
        except (DockerException, *ENGINE_GONE):
            later = Thread(target=self._release_later, args=(pool,), name="pool", daemon=True)
            with contextlib.suppress(RuntimeError):
                later.start()

    def _release_later(self, pool: str) -> None:
        try:
            remove_in_time(self._client, self.labels(pool), self._closing)
        except Exception as error:  # noqa: BLE001 - a thread's top
            _log.warning("The containers of a warm pool are left behind: %s", error)

    def _standing(self, pool: str) -> Mapping[str, str]:
        """The ids of the keepers that run, by host."""
        labels = {"label": [*self.labels(pool), LABEL_KEEPER]}
        found = self._client.api.containers(filters=labels)
        return {container["Labels"][LABEL_KEEPER]: container["Id"] for container in found}

    def _create(self, request: JobRequest) -> Mapping[str, str]:
        if request.network:
            create_network(self._client, self._engine, request.network)
        ids = side_by_side(self._start, request.containers)
        return dict(zip((one.host for one in request.containers), ids, strict=True))

    def _start(self, keeper: ContainerRequest) -> str:
        created = self._client.api.create_container_from_config(keeper.body, keeper.name)
        self._client.api.start(created["Id"])
        return str(created["Id"])

    def labels(self, pool: str) -> list[str]:
        """What finds all that the engine has of a pool, containers of a job in it included."""
        return [f"{LABEL_EMULATOR}={self._emulator}", f"{LABEL_POOL}={pool}"]


def keepers_request(plan: JobPlan, placement: Placement) -> JobRequest:
    """Pure: the network of a pool and one keeper an instance."""
    name = f"sagemaker-pool-{plan.pool}"
    labels = {LABEL_EMULATOR: placement.emulator, LABEL_POOL: plan.pool}

    def keeper(host: str, image: str) -> ContainerRequest:
        body: dict[str, Any] = {
            "Image": placement.images[image].name,
            "Hostname": host,
            "Entrypoint": [SHELL, "-c", _STAY],
            "Cmd": [],
            # The image may say otherwise, and a GPU is only in the way of others here.
            "Env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {**labels, LABEL_KEEPER: host},
            "HostConfig": {
                "NetworkMode": name,
                "Init": False,
                "RestartPolicy": {"Name": "no"},
                **extra_hosts(plan, placement),
            },
            "NetworkingConfig": {"EndpointsConfig": {name: {"Aliases": [host]}}},
        }
        return ContainerRequest(host, f"{name}-{host}", body)

    return JobRequest(
        network=network_body(name, labels, isolated=plan.network_isolation),
        volume=None,
        containers=tuple(keeper(one.host, one.image or "") for one in plan.instances),
    )
