"""The `sagemaker-emulator` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emulator import __version__
from emulator.cli import images
from emulator.cli.demo import demo
from emulator.cli.doctor import doctor
from emulator.cli.jobs import describe, jobs, logs, stop
from emulator.cli.up import env, up

app = typer.Typer(
    name="sagemaker-emulator",
    help="A local SageMaker: training jobs that really run, on your own machine.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (up, env, demo, jobs, describe, logs, stop, doctor):
    app.command()(command)
app.add_typer(images.app, name="images")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BrokenPipeError:
        # `sagemaker-emulator logs JOB | head` closes our stdout before we are done.
        sys.stderr.close()
        sys.exit(0)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _version(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass
