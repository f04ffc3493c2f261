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
    runtime: Literal["auto", "process", "docker"] = "auto"
    python: Path = Field(default_factory=lambda: Path(sys.executable))
    """The interpreter that instances of the process runtime use."""
    s3_endpoint: str | None = None
    """An S3 server to use instead of the embedded one, e.g. http://127.0.0.1:9000."""
    stop_grace_seconds: float = Field(default=120, ge=0)
    """Between SIGTERM and SIGKILL (120 on the service)."""

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
