"""env: point a shell at an emulator."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from emulator.cli.environment import client_environment, find_endpoint
from emulator.cli.messages import ExitCode, err, fail
from emulator.cli.options import (
    ConfigFlag,
    EndpointFlag,
    HostFlag,
    PortFlag,
    RegionFlag,
    StateFlag,
    load_settings,
)
from emulator.cli.reach import health
from emulator.cli.remote import url_of


def env(
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object of the variables.")
    ] = False,
    proxy: Annotated[
        bool,
        typer.Option(
            help="Also answer the SDKs' fixed STS host, through HTTPS_PROXY in this shell."
        ),
    ] = True,
    endpoint_url: EndpointFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    state_dir: StateFlag = None,
    region: RegionFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Print what to eval so that a shell takes the emulator for AWS."""
    settings = load_settings(
        host=host, port=port, state_dir=state_dir, region=region, config=config
    )
    endpoint = find_endpoint(settings, url_of(endpoint_url, port or None))
    if urlsplit(endpoint.url).port == 0:
        fail("no emulator runs, and port 0 says nothing.", "Start it first: sagemaker-emulator up")
    if proxy and health(endpoint.url) is None:
        err.print(
            "[bold yellow]warning:[/] no emulator answers: HTTPS of this shell will fail until one "
            "is started (sagemaker-emulator up), unless you add --no-proxy."
        )
    try:
        environment = client_environment(settings, os.environ, endpoint, proxy=proxy)
    except OSError as error:
        fail(f"{error}.", "Choose another --state-dir.", ExitCode.FAILED)
    text = json.dumps(environment.exports, indent=2) if as_json else environment.shell()
    sys.stdout.write(f"{text}\n")
    if not as_json and sys.stdout.isatty():
        err.print('[dim]To use it: eval "$(sagemaker-emulator env)"[/]')
