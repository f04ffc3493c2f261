"""Flags that several commands share, and how they become settings."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from emulator.cli.messages import ExitCode, fail
from emulator.settings import Settings

HostFlag = Annotated[str | None, typer.Option("--host", help="Address of the endpoint.")]
PortFlag = Annotated[
    int | None, typer.Option("--port", help="Port of the endpoint; 0: a free one.")
]
StateFlag = Annotated[
    Path | None, typer.Option("--state-dir", help="Where jobs, logs and objects live.")
]
ConfigFlag = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings.")]
RegionFlag = Annotated[str | None, typer.Option("--region", help="Region, e.g. us-east-1.")]
EndpointFlag = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url", help="The emulator to ask; default: AWS_ENDPOINT_URL, settings."
    ),
]


def load_settings(**flags: Any) -> Settings:
    """Settings with the given flags on top (None: not given).

    Ends the command with exit code 2 and one line if a flag, a variable or the file is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problem, remedy = _explain(error, given)
        fail(problem, remedy, ExitCode.USAGE)
    except SettingsError as error:
        fail(f"{error}.", "Correct the EMULATOR_* variable.", ExitCode.USAGE)
    except ValueError as error:
        # tomllib reports a malformed file as a plain ValueError.
        fail(f"the settings file is not valid TOML: {error}.", code=ExitCode.USAGE)
    if settings.config is not None and not settings.config.is_file():
        fail(f"there is no settings file {settings.config}.", code=ExitCode.USAGE)
    return settings


def _explain(error: ValidationError, flags: Collection[str]) -> tuple[str, str]:
    """The first thing that is wrong, and what to do; `flags` are the settings given by flag."""
    first = error.errors()[0]
    setting, name = str(first["loc"][0]), ".".join(map(str, first["loc"]))
    if setting not in Settings.model_fields:
        near = get_close_matches(setting, Settings.model_fields, n=1)
        advice = f"Did you mean {near[0]}?" if near else "README.md lists them all."
        return f"there is no setting {setting}.", advice
    flag = f"--{setting.replace('_', '-')}, " if setting in flags else ""
    return (
        f"setting {name}: {first['msg']} (it is {first['input']!r}).",
        f"Set it by {flag}EMULATOR_{setting.upper()} or in the TOML file.",
    )
