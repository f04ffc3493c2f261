"""Files that containers wrote as root, given to the user whom the emulator runs as.

Without it an ordinary user's emulator could read a job's outputs and never remove them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from docker import errors
from docker.client import DockerClient

from emulator.drivers.docker.requests import LABEL_HOST, SHELL


def wanted(security_options: Iterable[str]) -> bool:
    """Whether root in a container is somebody else than the emulator's user.

    A rootless engine's root is that user itself; Docker Desktop's shared files are too.
    """
    rootless = any("rootless" in option for option in security_options)
    return sys.platform == "linux" and os.geteuid() != 0 and not rootless


def handover(containers: Iterable[Mapping[str, Any]], owner: str) -> dict[str, Any] | None:
    """A container that gives what these (ContainerInspect answers) could write to `owner`."""
    containers = list(containers)
    sources = sorted({m["Source"] for c in containers for m in c["Mounts"] if m["RW"]})
    if not sources:
        return None
    targets = [f"/handover/{number}" for number in range(len(sources))]
    return {
        "Image": containers[0]["Image"],
        "User": "0",
        "Entrypoint": [SHELL, "-c", 'exec chown -R "$@"', SHELL],
        "Cmd": [owner, *targets],
        # Found with the job's containers, but no instance of it.
        "Labels": {k: v for k, v in containers[0]["Config"]["Labels"].items() if k != LABEL_HOST},
        "HostConfig": {
            "NetworkMode": "none",
            # An engine may map its containers' root to nobody in particular.
            "UsernsMode": "host",
            "Mounts": [
                {"Type": "bind", "Source": source, "Target": target}
                for source, target in zip(sources, targets, strict=True)
            ],
        },
    }


def hand_over(client: DockerClient, containers: Iterable[str]) -> None:
    """Give the job's files to this process's user. Raises APIError and what requests raises."""
    found = []
    for container in containers:
        try:
            found.append(client.api.inspect_container(container))
        except errors.NotFound:
            continue
    body = handover(found, f"{os.geteuid()}:{os.getegid()}")
    if body is None:
        return
    helper = client.api.create_container_from_config(body)["Id"]
    try:
        client.api.start(helper)
        client.api.wait(helper)
    finally:
        client.api.remove_container(helper, force=True)
