"""What a runtime is told to run, and what it says came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SERVE = "serve"
"""The argument with which containers of endpoints are started."""


@dataclass(frozen=True)
class Mount:
    """A directory of this machine that an instance sees under another path."""

    source: Path
    target: str
    read_only: bool = False
    layer: Path | None = None
    """A directory for what the instance changes, so that `source` stays as it is; only where
    the runtime's traits say that it has overlays."""

    @property
    def upper(self) -> Path | None:
        """What the instance has changed; there before it starts."""
        return self.layer and self.layer / "upper"

    @property
    def work(self) -> Path | None:
        """What the kernel needs beside it; there before the instance starts."""
        return self.layer and self.layer / "work"


@dataclass(frozen=True)
class InstancePlan:
    """One instance, complete: nothing else about the job matters to a runtime."""

    host: str
    """algo-N: hostname and name on the job's network."""
    image: str | None
    entrypoint: tuple[str, ...] | None
    """Replaces the image's own entrypoint when it is not None."""
    arguments: tuple[str, ...]
    """`("train",)` unless the request says otherwise."""
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    scratch: Path
    """A directory of this instance alone, outside its mounts, for the runtime's own use."""
    gpus: tuple[str, ...] = ()
    """UUIDs."""
    instance_type: str = ""
    """As the request names it, e.g. ml.m5.xlarge."""

    @property
    def serves(self) -> bool:
        """Whether it is started as the service starts containers of endpoints."""
        return self.entrypoint is None and self.arguments[:1] == (SERVE,)


@dataclass(frozen=True)
class Sharing:
    """What the instances of a job have in common, so that NCCL can use it."""

    dev_shm: bool = False
    """One tmpfs at /dev/shm for all instances of the job."""
    tmp: bool = False
    """One /tmp for all instances: NCCL keeps its sockets there."""
    all_gpus_visible: bool = False
    """Every instance sees all GPUs of the job; CUDA_VISIBLE_DEVICES tells it which are its own."""


@dataclass(frozen=True)
class JobPlan:
    """All instances of one job, started together on one network."""

    job: str
    arn: str
    instances: tuple[InstancePlan, ...]
    """In the order of their numbers."""
    network_isolation: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)
    outlives: bool = False
    """Whether the instances go on when the emulator is killed."""
    seconds: float = 86_400.0
    """After which they end by themselves if no emulator has ended them."""
    reachable: bool = False
    """Whether the emulator sends requests to the instances, also where they are isolated."""
    pool: str = ""
    """Names the warm pool whose instances these are; "" if they go with the job."""

    def visible_gpus(self, instance: InstancePlan) -> tuple[str, ...]:
        """The UUIDs of the devices that an instance can open: its own, or the whole job's."""
        if not (self.sharing.all_gpus_visible and instance.gpus):
            return instance.gpus
        return tuple(dict.fromkeys(gpu for one in self.instances for gpu in one.gpus))

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(instance.host for instance in self.instances)


@dataclass(frozen=True)
class RuntimeTraits:
    """How instances of a runtime see the world; the planner needs to know."""

    name: str
    network_interface: str
    """What resourceconfig.json names: the launcher binds NCCL and gloo to it."""
    emulator_url: str
    """Where an instance reaches the emulator (every AWS service, S3 included)."""
    overlays: bool = False
    """Whether a Mount may have a layer of its own."""
    engine: bool = False
    """Whether instances belong to a container engine, which mounts as root of its machine."""
    sees_mounts: bool = True
    """Whether instances see what the emulator mounts below its state directory: not where it
    runs in a container beside them."""
    shares_ports: bool = False
    """Whether instances listen on this machine's own ports: the launcher's are fixed
    (7777, torchrun's 29500), so that two jobs which use them cannot run side by side."""


@dataclass(frozen=True)
class Exit:
    """An instance's end."""

    host: str
    code: int
    """0, the command's own code, or 128 + signal."""
    at: float
    """Epoch seconds."""
    out_of_memory: bool = False
    lost: str = ""
    """Why the runtime itself lost the instance ("" when the command simply ended)."""
