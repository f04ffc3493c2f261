"""Flags that several commands share, and how they become settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from emulator.cli.messages import ExitCode, fail
from emulator.settings import Settings, SettingsProblem, did_you_mean, read_settings

HostFlag = Annotated[str | None, typer.Option("--host", help="Address of the endpoint.")]
PortFlag = Annotated[
    int | None, typer.Option("--port", help="Port of the endpoint; 0: a free one.")
]
AskPortFlag = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="The emulator at this port of this machine."),
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
        return read_settings(**given)
    except SettingsProblem as error:
        problem, remedy = _explain(error, given)
        fail(problem, remedy, ExitCode.USAGE)
    except ValueError as error:
        # tomllib reports a malformed file as a plain ValueError.
        fail(f"the settings file is not valid TOML: {error}.", code=ExitCode.USAGE)
    except OSError as error:
        fail(f"the settings file cannot be read: {error}.", code=ExitCode.USAGE)


def _explain(error: SettingsProblem, flags: Collection[str]) -> tuple[str, str]:
    """What is wrong, and what to do; `flags` are the settings given by flag."""
    known = [setting.name for setting in fields(Settings)]
    if error.name not in known:
        advice = did_you_mean(error.name, known) or "docs/settings.md lists them all."
        return f"there is no setting {error.name}.", advice
    flag = f"--{error.name.replace('_', '-')}, " if error.name in flags else ""
    return (
        f"setting {error.name}: {error.problem} (it is {str(error.given)!r}).",
        f"Set it by {flag}EMULATOR_{error.name.upper()} or in the TOML file.",
    )
