"""Pure: what the Docker engine is asked for, as the bodies of its HTTP API.

The member names are those of ContainerCreate and NetworkCreate in the Engine API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.drivers.aws_hosts import sdk_hosts
from emulator.drivers.docker.own_mounts import OwnMounts
from emulator.model.plan import InstancePlan, JobPlan, Mount

LABEL_EMULATOR = "sagemaker-emulator.emulator"
LABEL_ARN = "sagemaker-emulator.training-job-arn"
LABEL_JOB = "sagemaker-emulator.training-job"
LABEL_HOST = "sagemaker-emulator.host"
LABEL_INSTANCES = "sagemaker-emulator.instances"
"""How many containers the job has: fewer of them mean that it never started whole."""
LABEL_POOL = "sagemaker-emulator.warm-pool"
"""The warm pool that a job's containers, a network, or a keeper belong to."""
LABEL_KEEPER = "sagemaker-emulator.keeper-of"
"""The host whose place on a network the container keeps; see docker_keepers.py."""

LABEL_GLANCE = "sagemaker-emulator.glance"
"""A container that is never started, made to look into an image; removed at once, or by clean()
after a kill of the emulator."""

RUN_DIR = "/run/sagemaker-emulator"
"""What this runtime tells a container of its own, read-only; `run` in the scratch directory."""
LISTING = "nvidia-smi"
"""A program there for an instance that can open its peers' GPUs: it lists its own alone."""
JOB_KEY = "job_key"
"""A file there: the secret that all containers of a job make their ssh keys from."""
STARTED = "started"
"""A file there: all containers of the job run, so that each finds its peers by name."""

SHELL = "/bin/sh"
_WAIT_THEN_EXEC = f'until [ -e {RUN_DIR}/{STARTED} ]; do sleep 0.01; done; exec "$@" 2>&1'
"""Runs in front of the image's own command, and is replaced by it.

Peers start together, and stdout and stderr become one stream: the engine reads two pipes on
two threads, which loses the order of their lines.
"""

HOST_NAME = "host.docker.internal"
ALONE = "com.docker.network.bridge.inhibit_ipv4"
"""The option of a network whose members reach nobody but each other."""
"""Leads from a container to the engine's host; Docker Desktop has it without being asked."""

NAME_LIMIT = 63
"""A container's name is a DNS label on the job's network too."""


@dataclass(frozen=True)
class LocalImage:
    """An image as the engine has it."""

    name: str
    entrypoint: tuple[str, ...] = ()
    has_shell: bool = True
    command: tuple[str, ...] = ()
    """The arguments that its entry point gets where nobody gives others (CMD)."""


@dataclass(frozen=True)
class Placement:
    """What all containers of one job have in common."""

    name: str
    """Of the job's network, and the beginning of its containers' names."""
    emulator: str
    """Which emulator's they are: one never touches another's."""
    images: Mapping[str, LocalImage]
    """The request's image -> the engine's."""
    shm_bytes: int
    gpu_driver: str = "nvidia"
    """`nvidia` (the container toolkit's hook) or `cdi`."""
    host_gateway: bool = True
    """Containers find the engine's host by name (the emulator listens there)."""
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    """By host, the most memory of its container; a host that is not in it has no limit."""
    lock_memory: bool = True
    """Raise the limit of locked memory, which NCCL pins its buffers against."""
    host_environment: Mapping[str, str] = field(default_factory=dict)
    """Variables by which containers reach package indexes as this machine does."""
    reaches_aws: bool = True
    """The SDKs' own calls of AWS are not kept from it."""
    host_mounts: tuple[Mount, ...] = ()
    """Package indexes that are directories of this machine."""
    keepers: Mapping[str, str] = field(default_factory=dict)
    """By host, the container whose place on a network the job's own takes; empty: none."""
    own_mounts: OwnMounts = field(default_factory=OwnMounts)
    """What the engine calls the directories of an emulator in a container."""


@dataclass(frozen=True)
class ContainerRequest:
    """One ContainerCreate call."""

    host: str
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class JobRequest:
    """Everything that is created for a job, in order."""

    network: Mapping[str, Any] | None
    """None: there is one already."""
    volume: Mapping[str, Any] | None
    """The one /dev/shm of a job whose instances share it."""
    containers: tuple[ContainerRequest, ...]


def placement_name(job: str, token: str) -> str:
    """`sagemaker-<job>-<token>`, short enough to leave room for `-algo-100`."""
    room = NAME_LIMIT - len("sagemaker--") - len(token) - len("-algo-100")
    return f"sagemaker-{job[:room].rstrip('-')}-{token}"


def run_dir(instance: InstancePlan) -> Path:
    """Where this machine has the container's RUN_DIR."""
    return instance.scratch / "run"


def sees_peers_gpus(plan: JobPlan, instance: InstancePlan) -> bool:
    """Whether the container can open GPUs that are not its instance's."""
    return set(plan.visible_gpus(instance)) != set(instance.gpus)


def job_request(plan: JobPlan, placement: Placement) -> JobRequest:
    """The network and the containers of a job."""
    return JobRequest(
        network=None if placement.keepers else _network(plan, placement),
        volume=_shared_memory(plan, placement) if plan.sharing.dev_shm else None,
        containers=tuple(
            ContainerRequest(
                instance.host,
                f"{placement.name}-{instance.host}",
                _container(plan, instance, placement),
            )
            for instance in plan.instances
        ),
    )


def network_body(
    name: str, labels: Mapping[str, str], *, isolated: bool, reachable: bool = False
) -> dict[str, Any]:
    """A NetworkCreate call."""
    # An internal network still reaches its own gateway, which is the host with all its
    # services. Without an address on the bridge an isolated job reaches its peers alone, and
    # the host does not reach it.
    alone = isolated and not reachable
    options = {ALONE: "true"} if alone else {}
    return {
        "name": name,
        "driver": "bridge",
        "internal": isolated,
        "options": options,
        "labels": dict(labels),
    }


def extra_hosts(plan: JobPlan, placement: Placement) -> dict[str, Any]:
    """The part of a HostConfig that leads to the engine's host, and not to AWS."""
    if plan.network_isolation:
        return {}
    hosts = [f"{HOST_NAME}:host-gateway"] if placement.host_gateway else []
    if not placement.reaches_aws:
        region = plan.instances[0].environment.get("AWS_REGION", "us-east-1")
        hosts += [f"{host}:127.0.0.1" for host in sdk_hosts(region)]  # nobody answers there
    return {"ExtraHosts": hosts} if hosts else {}


def _network(plan: JobPlan, placement: Placement) -> dict[str, Any]:
    labels = _job_labels(plan, placement)
    return network_body(
        placement.name, labels, isolated=plan.network_isolation, reachable=plan.reachable
    )


def _shared_memory(plan: JobPlan, placement: Placement) -> dict[str, Any]:
    return {
        "name": placement.name,
        "driver": "local",
        "driver_opts": {
            "type": "tmpfs",
            "device": "tmpfs",
            "o": f"size={placement.shm_bytes},mode=1777",
        },
        "labels": _job_labels(plan, placement),
    }


def _container(plan: JobPlan, instance: InstancePlan, placement: Placement) -> dict[str, Any]:
    image = placement.images[instance.image or ""]
    environment = _environment(instance, placement)
    return {
        "Image": image.name,
        **_command(instance, image),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {**_job_labels(plan, placement), LABEL_HOST: instance.host},
        "Tty": False,
        "OpenStdin": False,
        "HostConfig": _host_config(plan, instance, placement),
        **_endpoint(instance, placement),
    }


def _endpoint(instance: InstancePlan, placement: Placement) -> dict[str, Any]:
    """A container in its keeper's place has that one's names, and may not have its own."""
    if placement.keepers:
        return {}
    return {
        "Hostname": instance.host,
        "NetworkingConfig": {"EndpointsConfig": {placement.name: {"Aliases": [instance.host]}}},
    }


def _command(instance: InstancePlan, image: LocalImage) -> dict[str, Any]:
    # As `docker run`: whoever replaces the entry point does without the image's arguments, too.
    own = image.command if instance.entrypoint is None else ()
    arguments = list(instance.arguments or own)
    entrypoint = image.entrypoint if instance.entrypoint is None else instance.entrypoint
    if image.has_shell:
        return {
            "Entrypoint": [SHELL, "-c", _WAIT_THEN_EXEC, SHELL, *entrypoint],
            "Cmd": arguments,
        }
    return {"Entrypoint": list(entrypoint), "Cmd": arguments}


def _host_config(plan: JobPlan, instance: InstancePlan, placement: Placement) -> dict[str, Any]:
    run = [Mount(run_dir(instance), RUN_DIR, read_only=True), *placement.host_mounts]
    if sees_peers_gpus(plan, instance):
        # Before /usr/bin on the path, where the container toolkit puts the driver's own.
        listing = run_dir(instance) / LISTING
        run.append(Mount(listing, f"/usr/local/bin/{LISTING}", read_only=True))
    config: dict[str, Any] = {
        **_network_mode(plan, instance, placement),
        "Mounts": [_mount(mount, placement.own_mounts) for mount in (*instance.mounts, *run)],
        "ShmSize": placement.shm_bytes,
        "Ulimits": [
            {"Name": "stack", "Soft": 64 * 1024**2, "Hard": 64 * 1024**2},
            *([{"Name": "memlock", "Soft": -1, "Hard": -1}] if placement.lock_memory else []),
        ],
        # NCCL asks for memory by NUMA node; Docker's seccomp profile refuses that without it.
        "CapAdd": ["SYS_NICE"],
        # SIGTERM must reach the image's own first process, as on the service.
        "Init": False,
        "RestartPolicy": {"Name": "no"},
        # An emulator that was away reads the output back: every byte as it was written (the
        # json-file driver changes what is not UTF-8) and none rotated away.
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": "1000g", "max-file": "1", "compress": "false"},
        },
    }
    if (limit := placement.memory_bytes.get(instance.host)) is not None:
        config["Memory"] = config["MemorySwap"] = limit
    if gpus := plan.visible_gpus(instance):
        config["DeviceRequests"] = [_device_request(gpus, placement.gpu_driver)]
    if plan.sharing.dev_shm:
        volume = {"Type": "volume", "Source": placement.name, "Target": "/dev/shm"}  # noqa: S108
        config["Mounts"].append(volume)
    return config


def _network_mode(plan: JobPlan, instance: InstancePlan, placement: Placement) -> dict[str, Any]:
    if placement.keepers:
        return {"NetworkMode": f"container:{placement.keepers[instance.host]}"}
    return {"NetworkMode": placement.name, **extra_hosts(plan, placement)}


def _mount(mount: Mount, own: OwnMounts) -> dict[str, Any]:
    if mount.layer:
        return _layered(mount)
    return {
        "Type": "bind",
        "Source": str(own.outside(mount.source)),
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }


def _layered(mount: Mount) -> dict[str, Any]:
    """A volume without a name, which goes with its container: the engine mounts the overlay."""
    layers = f"lowerdir={mount.source},upperdir={mount.upper},workdir={mount.work}"
    return {
        "Type": "volume",
        "Target": mount.target,
        "VolumeOptions": {
            # What the image has there stays out of it.
            "NoCopy": True,
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "overlay", "device": "overlay", "o": layers},
            },
        },
    }


def _device_request(gpus: tuple[str, ...], driver: str) -> dict[str, Any]:
    """GPUs by UUID: a count would give the same first ones to every container."""
    if driver == "cdi":
        return {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={gpu}" for gpu in gpus]}
    return {"Driver": driver, "DeviceIDs": list(gpus), "Capabilities": [["gpu"]]}


def _environment(instance: InstancePlan, placement: Placement) -> dict[str, str]:
    """The plan's environment; which GPUs there are is not up to it."""
    environment = {**placement.host_environment, **instance.environment}
    environment.pop("NVIDIA_VISIBLE_DEVICES", None)
    if not instance.gpus or placement.gpu_driver == "cdi":
        # Many images say "all", which the toolkit's hook would obey in any container.
        environment["NVIDIA_VISIBLE_DEVICES"] = "void"
    return environment


def _job_labels(plan: JobPlan, placement: Placement) -> dict[str, str]:
    return {
        **plan.labels,
        **({LABEL_POOL: plan.pool} if plan.pool else {}),
        LABEL_EMULATOR: placement.emulator,
        LABEL_ARN: plan.arn,
        LABEL_JOB: plan.job,
        LABEL_INSTANCES: str(len(plan.instances)),
    }
