"""delete: a job that has ended, or an endpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from emulator.cli import endpoints
from emulator.cli.messages import out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import NoSuchJob, connect, plain_errors


def delete(
    name: Annotated[str, typer.Argument(help="Name of a job, or of an endpoint.")],
    endpoint: Annotated[
        bool, typer.Option("--endpoint", help="The endpoint of that name, not a job.")
    ] = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Forget a job that has ended, or delete an endpoint.

    A job's outputs stay in S3; an endpoint's model and configuration stay, too.
    """
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    with plain_errors(remote, name):
        kind = None
        if not endpoint:
            try:
                kind = remote.kind_of(name)
            except NoSuchJob:
                if not endpoints.exists(remote, name):
                    raise
        if kind is None:
            remote.sagemaker.call("DeleteEndpoint", EndpointName=name)
        else:
            remote.call("Delete", kind, name)
    out.print(f"{name}: deleted")
