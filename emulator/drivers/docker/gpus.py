"""Whether containers got the GPUs that were asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from docker.client import DockerClient
from docker.errors import APIError

from emulator.model.errors import CapacityError
from emulator.model.plan import JobPlan

_LIST_GPUS = ["sh", "-c", "PATH=/usr/bin:$PATH nvidia-smi -L || ls -d /dev/nvidia[0-9]*"]
"""The driver's own program: another one by that name may list less."""


def check_gpus(client: DockerClient, plan: JobPlan, containers: Mapping[str, str]) -> None:
    """Count them in every container that shall have some. Raises CapacityError.

    An engine can start a container without its GPUs and say nothing (podman < 5.4).
    """
    for instance in plan.instances:
        if not instance.gpus:
            continue
        # A container that has ended already tells why itself.
        with contextlib.suppress(APIError):
            listing = _run(client, containers[instance.host], _LIST_GPUS)
            expected = len(plan.visible_gpus(instance))
            if (found := count_gpus(listing)) != expected:
                raise CapacityError(
                    f"{instance.host} sees {found} GPUs instead of {expected}: "
                    "check the NVIDIA container toolkit of the Docker engine."
                )


def count_gpus(listing: str) -> int:
    """GPUs in the output of `nvidia-smi -L`, or of `ls -d /dev/nvidia[0-9]*`."""
    return sum(line.startswith(("GPU ", "/dev/nvidia")) for line in listing.splitlines())


def _run(client: DockerClient, container: str, command: list[str]) -> str:
    exec_id = client.api.exec_create(container, command)["Id"]
    output: bytes = client.api.exec_start(exec_id)
    return output.decode(errors="replace")
