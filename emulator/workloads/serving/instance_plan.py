"""An instance of an endpoint and what it was given → what a runtime has to start. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.model.hosting import ContainerSpec
from emulator.model.plan import SERVE, InstancePlan, JobPlan, Mount, RuntimeTraits
from emulator.workloads.plan.job_plan import Credentials, environment_of
from emulator.workloads.serving.instance_spec import InstanceSpec

MODEL = "/opt/ml/model"
MODELS = "/opt/ml/models"
"""Where the archives of a multi-model container are unpacked (developer guide)."""
COMMAND = "EMULATOR_SERVE"
"""A variable of the model: what the process runtime runs in the place of the image's `serve`."""


@dataclass(frozen=True)
class ContainerDirs:
    """The directories of one container on this machine."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def models(self) -> Path:
        """Of a multi-model container."""
        return self.root / "models"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def scratch(self) -> Path:
        """The runtime's own."""
        return self.root / "scratch"

    @property
    def layers(self) -> Path:
        """What the container changes in data that it shares with others."""
        return self.root / "layers"

    def create(self) -> None:
        """Make them all. Raises OSError."""
        for directory in (self.model, self.models, self.scratch, self.layers, self.tmp):
            directory.mkdir(parents=True)
        self.tmp.chmod(0o1777)


def plan_instance(
    spec: InstanceSpec,
    dirs: Mapping[str, ContainerDirs],
    data: Mapping[str, tuple[Mount, ...]],
    traits: RuntimeTraits,
    gpus: tuple[str, ...],
    credentials: Credentials,
    outlives: bool,
) -> JobPlan:
    """All containers of an instance, on one network and with the same GPUs (UUIDs).

    `dirs` and `data` are by hostname of the container; `data` are mounts that take the place of
    directories. `outlives`: they go on when the emulator is killed.
    """
    owned = credentials.of(spec.scope.account)
    return JobPlan(
        job=f"{spec.endpoint}-{spec.variant.name}",
        arn=spec.arn,
        instances=tuple(
            InstancePlan(
                host=container.hostname,
                image=container.image,
                entrypoint=_entrypoint(container, traits),
                arguments=(SERVE,),
                environment=_environment(spec, number, traits, bool(gpus), owned),
                mounts=_mounts(container, dirs[container.hostname], data[container.hostname]),
                scratch=dirs[container.hostname].scratch,
                gpus=gpus,
                instance_type=spec.variant.instance_type,
            )
            for number, container in enumerate(spec.variant.containers)
        ),
        network_isolation=spec.variant.network_isolation,
        reachable=True,
        outlives=outlives,
        seconds=math.inf,
    )


def _entrypoint(container: ContainerSpec, traits: RuntimeTraits) -> tuple[str, ...] | None:
    command = container.environment.get(COMMAND)
    if command is None or traits.engine:
        return None
    return ("/bin/sh", "-c", f"cd {MODEL} && exec {command.removeprefix('exec ')}")


def _mounts(
    container: ContainerSpec, dirs: ContainerDirs, data: tuple[Mount, ...]
) -> tuple[Mount, ...]:
    taken = {mount.target for mount in data}
    own = [Mount(dirs.model, MODEL), Mount(dirs.tmp, "/tmp")]  # noqa: S108 - of the instance
    if container.models is not None:
        own.append(Mount(dirs.models, MODELS))
    return (*(mount for mount in own if mount.target not in taken), *data)


def _environment(
    spec: InstanceSpec,
    number: int,
    traits: RuntimeTraits,
    has_gpus: bool,
    credentials: Credentials,
) -> Mapping[str, str]:
    container = spec.variant.containers[number]
    platform = {
        "SAGEMAKER_BIND_TO_PORT": str(spec.port_of(number)),
        "SAGEMAKER_REGION": spec.scope.region,
        **({"SAGEMAKER_MULTI_MODEL": "true"} if container.models is not None else {}),
    }
    return environment_of(
        container.environment, platform, spec.scope, traits, has_gpus, credentials
    )
