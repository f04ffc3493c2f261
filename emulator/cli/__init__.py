"""The `sagemaker-emulator` command.

A command's module is imported when the command is run: `up` needs the whole server, and the
commands that ask a running emulator need next to nothing of it.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from emulator import __version__

COMMANDS = {
    "up": "Start the emulator and keep it running until Ctrl-C.",
    "env": "Print what to eval so that a shell takes the emulator for AWS.",
    "demo": "Train a model on two instances, deploy it, and try it on data it never saw.",
    "jobs": "List training and processing jobs, newest first.",
    "top": "Show GPUs, the queue and running jobs, live until Ctrl-C.",
    "metrics": "Draw a job's metrics: every value that its script printed.",
    "describe": "Print everything Describe says of a job, as JSON.",
    "logs": "Print the log of a job or an endpoint; with -f also what comes, until it ends.",
    "stop": "Stop a job: SIGTERM, and SIGKILL two minutes later.",
    "deploy": "Make an endpoint of a model.tar.gz and wait until it serves.",
    "endpoints": "List endpoints with their variants and instances, newest first.",
    "invoke": "Send a request to an endpoint and print its answer.",
    "artifacts": "Fetch a job's outputs from S3, and unpack model.tar.gz and output.tar.gz.",
    "delete": "Forget a job that has ended, or delete an endpoint.",
    "doctor": "Check this machine; exit code 1 if something that is needed is missing.",
    "images": "Build and list the images of this project.",
}
"""Every command, and what `--help` says of it."""
EXAMPLES = {
    "up": ("up", "up --port 4600 --runtime process --python ~/train/.venv/bin/python"),
    "env": (
        'eval "$(sagemaker-emulator env)"',
        "env --json",
        "env --endpoint-url http://workstation:4570",
    ),
    "demo": ("demo", "demo --runtime docker"),
    "jobs": ("jobs --status failed", "jobs --json --limit 5"),
    "top": ("top", "top --once"),
    "metrics": ("metrics my-job", "metrics my-job --name loss --log"),
    "describe": ("describe my-job",),
    "logs": ("logs my-job --follow", "logs my-job --host algo-2", "logs my-endpoint --endpoint"),
    "stop": ("stop my-job --wait",),
    "deploy": (
        "deploy model.tar.gz",
        "deploy s3://bucket/model.tar.gz --name mine --instance-type ml.local.1gpu",
    ),
    "endpoints": ("endpoints", "endpoints --json"),
    "invoke": ("invoke my-endpoint --body '[[1, 2]]'", "invoke my-llm --file ask.json --stream"),
    "artifacts": ("artifacts my-job", "artifacts my-job results --packed"),
    "delete": ("delete my-job", "delete my-endpoint"),
    "doctor": ("doctor", "doctor --gpu-test"),
    "images": ("images build", "images build --variant gpu", "images list"),
}
"""What `--help` shows of a command's use."""
_VARIABLES = {
    "up": "Every setting has a variable, EMULATOR_PORT for one; docs/settings.md lists them. A "
    "flag wins over a variable, a variable over the file of --config.",
    "env": "EMULATOR_STATE_DIR and EMULATOR_PORT say which emulator is meant, where no flag does.",
    "demo": "It takes the emulator that runs, else one of its own in sandboxes. It needs PyTorch, "
    "boto3 and scikit-learn, which come with the extra demo.",
}
_ASKS = (
    "The emulator asked is that of --endpoint-url or --port, else of AWS_ENDPOINT_URL, else that "
    "of EMULATOR_STATE_DIR and EMULATOR_PORT."
)
MODULES = {
    "describe": "jobs",
    "invoke": "endpoints",
    "logs": "logs",
    "stop": "jobs",
}
"""The module in this package that has a command, where it is not named after it.

The command is the function of its name in there, or the module's `app` if it has commands below it.
"""


class LazyGroup(TyperGroup):
    """Has an empty command for each of COMMANDS until one of them is run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)


def load(name: str) -> Any:
    """The command of this name, as typer runs it."""
    # What an import makes stays: looking for garbage in it is a sixth of the time of `up`'s.
    gc.disable()
    try:
        module = import_module(f"emulator.cli.{MODULES.get(name, name)}")
    finally:
        gc.enable()
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False)
        group.command(name, epilog=epilog(name))(getattr(module, name))
    else:
        group.info.epilog = epilog(name)
    return typer.main.get_command(group)


def epilog(name: str) -> str | None:
    """What `--help` says at its end: examples, and the variables that count."""
    if name not in EXAMPLES:
        return None
    shown = (
        line if "sagemaker-emulator" in line else f"sagemaker-emulator {line}"
        for line in EXAMPLES[name]
    )
    asks = name not in ("up", "env", "demo", "doctor", "images")
    variables = _ASKS if asks else _VARIABLES.get(name, "")
    return "\n\n".join(filter(None, ["Examples:", *shown, variables]))


app = typer.Typer(
    cls=LazyGroup,
    name="sagemaker-emulator",
    help="A local SageMaker: jobs that run and endpoints that serve, on your own machine.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)


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
