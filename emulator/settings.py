"""Settings: command-line flags, then EMULATOR_* variables, then a TOML file, then defaults."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from platformdirs import user_state_path
from pydantic import Field

from emulator.model.checked import checked
from emulator.model.faults import Fault, read_fault

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

APP = "sagemaker-emulator"
VARIABLES = "EMULATOR_"
"""What the name of a setting's environment variable begins with."""

FORMER_NAMES = {"leave_containers": "leave_jobs"}
"""Settings that had another name, which is still read."""


@dataclass(frozen=True)
class SecretStr:
    """Text that is not shown where the settings are."""

    text: str = field(repr=False)

    def get_secret_value(self) -> str:
        return self.text


class SettingsProblem(ValueError):
    """A setting is wrong: which one, why, and what was given."""

    def __init__(self, name: str, problem: str, given: Any = None):
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem
        self.given = given


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a user can set. `read_settings` gives them, checked."""

    host: str = "127.0.0.1"
    """Address to listen on; only loopback by default."""
    port: Annotated[int, Field(ge=0, le=65535)] = 4570
    """The one port of all services; 0 takes a free one."""
    proxy_host: str = "127.0.0.1"
    """Address on which the STS proxy listens; the server image, whose ports compose publishes on
    loopback alone, listens on all of its own."""
    proxy_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Port of the STS proxy; without it the one after `port`."""
    state_dir: Path = field(default_factory=lambda: user_state_path(APP))
    """Jobs, logs, objects and caches live below it."""
    config: Path | None = None
    """The TOML file these settings may come from."""
    account: Annotated[str, Field(pattern=r"^\d{12}$")] = "123456789012"
    region: str = "us-east-1"
    """Used where a request does not say (its signature names the region)."""
    access_key: str = "emulator"
    secret_key: SecretStr = SecretStr("emulator-secret")
    """Credentials of the object store; `sagemaker-emulator env` exports them."""
    admin_token: SecretStr = SecretStr("")
    """For the routes below /_emulator from elsewhere than this machine; without one, `up` makes
    one that `sagemaker-emulator env` exports."""
    role_arn: str = "arn:aws:iam::123456789012:role/SageMakerRole"
    roles: tuple[str, ...] = ()
    """ARNs or names of the IAM roles that exist beside `role_arn`; without any, every role does."""
    runtime: Literal["auto", "process", "docker"] = "auto"
    python: Path = field(default_factory=lambda: Path(sys.executable))
    """The interpreter that instances of the process runtime use."""
    process_network: Literal["job", "host"] = "job"
    """A network for each job of the process runtime, or this machine's for all of them."""
    images: tuple[str, ...] = ()
    """Shell patterns of training images that exist although no Docker engine has them; "*" for
    any. The process runtime runs their jobs with `python`."""
    sandbox_show: tuple[Path, ...] = ()
    """Paths that jobs of the process runtime may read although they are hidden from them."""
    image_map: dict[str, str] = field(default_factory=dict)
    """Shell patterns of TrainingImage -> an image of the Docker engine, before the defaults."""
    s3_endpoint: str | None = None
    """An S3 server to use instead of the embedded one, e.g. http://127.0.0.1:9000."""
    stop_grace_seconds: Annotated[float, Field(ge=0)] = 120
    """Between SIGTERM and SIGKILL (120 on the service)."""
    cache_gigabytes: Annotated[float, Field(ge=0)] = 100
    """Input data kept on disk for the next job; data in use may exceed it."""
    file_systems: dict[str, Path] = field(default_factory=dict)
    """EFS and FSx by their id: the directories that stand for them."""
    sync_seconds: Annotated[float, Field(gt=0)] = 3
    """Between two looks at what a running job has saved in its checkpoint directory."""
    spot_notice_seconds: Annotated[float, Field(ge=0)] = 120
    """Between SIGTERM and SIGKILL when spot instances are taken away (120 on the service)."""
    leave_jobs: bool = True
    """Jobs whose instances can go on without the emulator do; the next one on this state
    directory takes them over. Without it all jobs end with the emulator."""
    reserve_megabytes: Annotated[int, Field(ge=0)] = 32
    """Disk space kept back below `state_dir`: with it jobs end, and the emulator starts, on a full
    disk; 0 keeps none."""
    retention_days: Annotated[float, Field(ge=0)] = 180
    """Log streams, metrics, lease records and kept files that are older are removed; 0 keeps
    them."""
    kept_gigabytes: Annotated[float, Field(ge=0)] = 100
    """Files that S3 did not take, below `state_dir`/kept; beyond it the oldest are removed,
    but for those of the last day."""
    enforce_memory: bool = False
    """Containers get no more memory than their instance type has on the service."""
    share_network_settings: bool = True
    """Containers get this machine's pip settings, certificates and proxies, as processes do."""
    jobs_reach_aws: Literal["data", "all", "none"] = "data"
    """Which of AWS's own hosts jobs reach through their proxy: those of S3, package indexes and
    servers of users, all, or none."""
    keep_directories: bool = False
    """Leave the directories of ended jobs below `state_dir`/jobs, to look into them."""
    faults: tuple[Fault, ...] = ()
    """Faults that are seeded from the start; a list of JSON objects (docs/faults.md)."""
    system_metrics_seconds: Annotated[float, Field(gt=0)] = 60
    """Between two looks at what the instances use (60 on the service)."""

    gpu_policy: Literal["scale", "exact", "shared"] = "scale"
    """What instances get of this machine's GPUs: a fair share, what their type has, or the same."""
    gpu_inventory: Path | None = None
    """A JSON file that stands for this machine's GPUs, to rehearse scheduling without any."""
    nccl_preset: Literal["network", "shm", "fast", "shared-gpu"] = "network"
    """How NCCL talks between instances where a job does not say."""
    use_busy_gpus: bool = False
    """Give out GPUs on which processes of others compute."""
    gpu_idle_seconds: Annotated[float, Field(ge=0)] = 900
    """A job none of whose GPUs is used for so long is marked, on the page and in its log; 0 marks
    none."""
    gpu_idle_action: Literal["mark", "stop"] = "mark"
    """Whether such a job is also stopped."""
    max_jobs: Annotated[int, Field(ge=1)] | None = None
    """Jobs that run at once; no limit of their number without it."""
    max_gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs that all jobs together may hold."""
    overcommit: Annotated[float, Field(gt=0)] = 4
    """vCPUs and memory promised to instances without GPUs for each that is really there."""
    instance_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Own instance types: a name, and vcpu, memory_gib, gpu_count, gpu_model, gpu_memory_mib."""
    idle_seconds: Annotated[float, Field(ge=0)] = 1800
    """A job of several instances that neither say nor compute anything for so long is ended as
    hung; 0 lets it wait."""


def read_settings(**given: Any) -> Settings:
    """The values given, over those of variables, over those of the file, over the defaults.

    Raises SettingsProblem for one that does not exist or is wrong, and tomllib's error or an
    OSError for a file that cannot be read.
    """
    variables = _from_variables(os.environ)
    config = given.get("config") or variables.get("config")
    values = _from_file(Path(config)) if config else {}
    values = _by_new_name(values) | variables
    values |= given
    hints = get_type_hints(Settings, include_extras=True) if values else {}
    return Settings(
        **{
            name: _checked(name, value, hints.get(name), text=name in variables.keys() - given)
            for name, value in values.items()
        }
    )


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """EMULATOR_* variables that are no setting, and what to do about each."""
    known = [name.upper() for name in (*(one.name for one in fields(Settings)), *FORMER_NAMES)]
    found = {}
    for name in sorted(environment):
        rest = name.upper().removeprefix(VARIABLES)
        if name.upper().startswith(VARIABLES) and rest not in known:
            found[name] = did_you_mean(rest, known, VARIABLES)
    return found


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest of the known names, as a question; "" if none is near."""
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {prefix}{near[0]}?" if near else ""


def _from_file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise SettingsProblem("config", "there is no such file", str(file))
    return dict(tomllib.loads(file.read_text()))


def _from_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    ambient = {name.upper(): value for name, value in environment.items()}
    names = (*FORMER_NAMES, *(setting.name for setting in fields(Settings)))
    keys = {name: f"{VARIABLES}{name.upper()}" for name in names}
    # An empty one is not set: `EMULATOR_PYTHON= sagemaker-emulator up`, and compose's `${X:-}`.
    return _by_new_name({name: ambient[key] for name, key in keys.items() if ambient.get(key)})


def _by_new_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """A setting that is given by both of its names has the value of the new one."""
    former = {FORMER_NAMES[name]: value for name, value in values.items() if name in FORMER_NAMES}
    return former | {name: value for name, value in values.items() if name not in FORMER_NAMES}


def _checked(name: str, value: Any, hint: Any, *, text: bool) -> Any:
    if hint is None:
        raise SettingsProblem(name, "there is no such setting", value)
    read: Any = value
    try:
        if text and isinstance(value, str) and get_origin(hint) in (dict, tuple):
            read = json.loads(value)
        if name == "faults":
            return tuple(one if isinstance(one, Fault) else read_fault(one) for one in read)
        if hint is SecretStr:
            return value if isinstance(value, SecretStr) else SecretStr(checked(value, str))
        return checked(read, hint)
    except json.JSONDecodeError as error:
        raise SettingsProblem(name, f"it is not valid JSON ({error})", value) from error
    except ValueError as error:
        raise SettingsProblem(name, str(error), value) from error
