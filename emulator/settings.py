"""Settings: command-line flags, then EMULATOR_* variables, then a TOML file, then defaults."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_state_path
from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from emulator.model.faults import Fault

APP = "sagemaker-emulator"
Account = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]


class Settings(BaseSettings):
    """Everything a user can set. `Settings(port=0)` overrides variable and file."""

    model_config = SettingsConfigDict(env_prefix="EMULATOR_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on; only loopback by default."""
    port: int = Field(default=4570, ge=0, le=65535)
    """The one port of all services; 0 takes a free one."""
    state_dir: Path = Field(default_factory=lambda: user_state_path(APP))
    """Jobs, logs, objects and caches live below it."""
    config: Path | None = None
    """The TOML file these settings may come from."""
    account: Account = "123456789012"
    region: str = "us-east-1"
    """Used where a request does not say (its signature names the region)."""
    access_key: str = "emulator"
    secret_key: SecretStr = SecretStr("emulator-secret")
    """Credentials of the object store; `sagemaker-emulator env` exports them."""
    role_arn: str = "arn:aws:iam::123456789012:role/SageMakerRole"
    roles: tuple[str, ...] = ()
    """ARNs or names of the IAM roles that exist beside `role_arn`; without any, every role does."""
    runtime: Literal["auto", "process", "docker"] = "auto"
    python: Path = Field(default_factory=lambda: Path(sys.executable))
    """The interpreter that instances of the process runtime use."""
    process_network: Literal["job", "host"] = "job"
    """A network for each job of the process runtime, or this machine's for all of them."""
    image_map: dict[str, str] = {}
    """Shell patterns of TrainingImage -> an image of the Docker engine, before the defaults."""
    s3_endpoint: str | None = None
    """An S3 server to use instead of the embedded one, e.g. http://127.0.0.1:9000."""
    stop_grace_seconds: float = Field(default=120, ge=0)
    """Between SIGTERM and SIGKILL (120 on the service)."""
    cache_gigabytes: float = Field(default=100, ge=0)
    """Input data kept on disk for the next job; data in use may exceed it."""
    file_systems: dict[str, Path] = Field(default_factory=dict)
    """EFS and FSx by their id: the directories that stand for them."""
    sync_seconds: float = Field(default=3, gt=0)
    """Between two looks at what a running job has saved in its checkpoint directory."""
    spot_notice_seconds: float = Field(default=120, ge=0)
    """The same when spot instances are taken away (two minutes on the service)."""
    leave_containers: bool = True
    """Containers go on without the emulator; the next one on this state directory takes them
    over. Without it they end with the emulator, as processes do."""
    keep_directories: bool = False
    """Leave the directories of ended jobs below `state_dir`/jobs, to look into them."""
    faults: tuple[Fault, ...] = ()
    """Faults that are seeded from the start; a list of JSON objects (docs/faults.md)."""
    system_metrics_seconds: float = Field(default=60, gt=0)
    """Between two looks at what the instances use (60 on the service)."""

    gpu_policy: Literal["scale", "exact", "shared"] = "scale"
    """What instances get of this machine's GPUs: a fair share, what their type has, or the same."""
    gpu_inventory: Path | None = None
    """A JSON file that stands for this machine's GPUs, to rehearse scheduling without any."""
    nccl_preset: Literal["network", "shm", "fast", "shared-gpu"] = "network"
    """How NCCL talks between instances where a job does not say."""
    use_busy_gpus: bool = False
    """Give out GPUs on which processes of others compute."""
    max_jobs: int | None = Field(default=None, ge=1)
    """Jobs that run at once; no limit of their number without it."""
    max_gpus: int | None = Field(default=None, ge=0)
    """GPUs that all jobs together may hold."""
    overcommit: float = Field(default=4, gt=0)
    """vCPUs and memory promised to instances without GPUs for each that is really there."""
    instance_types: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Own instance types: a name, and vcpu, memory_gib, gpu_count, gpu_model, gpu_memory_mib."""
    idle_seconds: float = Field(default=1800, ge=0)
    """A job of several instances that neither say nor compute anything for so long is ended as
    hung; 0 lets it wait."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config: Any = init_settings().get("config") or env_settings().get("config")
        file = TomlConfigSettingsSource(settings_cls, toml_file=Path(config) if config else None)
        return init_settings, env_settings, file
