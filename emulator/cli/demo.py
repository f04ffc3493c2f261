"""demo: a real two-instance training job from upload to a model that answers as an endpoint."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from emulator.cli.environment import find_endpoint
from emulator.cli.follow import Change, JobReader, Line
from emulator.cli.jobs import show_line
from emulator.cli.messages import ExitCode, fail, out
from emulator.cli.options import ConfigFlag, EndpointFlag, PortFlag, StateFlag, load_settings
from emulator.cli.reach import health
from emulator.cli.remote import connect, plain_errors, url_of
from emulator.cli.up import configure_logging, serving
from emulator.settings import Settings

GOOD_ENOUGH = 0.9


def demo(
    endpoint_url: EndpointFlag = None,
    port: PortFlag = None,
    state_dir: StateFlag = None,
    python: Annotated[
        Path | None, typer.Option("--python", help="Interpreter of the process runtime.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", help="process (default) or docker, for an emulator of its own."),
    ] = None,
    config: ConfigFlag = None,
) -> None:
    """Train a model on two instances, deploy it, and try it on data it never saw."""
    settings = load_settings(
        port=port, state_dir=state_dir, python=python, runtime=runtime, config=config
    )
    try:
        # boto3, torch and scikit-learn come with an extra.
        from emulator.cli import demo_training  # noqa: PLC0415
    except ImportError as error:
        fail(
            f"the demo needs {error.name}, which comes with sagemaker-emulator[demo].",
            "Install that where this command is. PyTorch is in it: README.md, Install, says how to "
            "get its small CPU build.",
        )
    # So that what the demo started ends with it, also when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.FAILED))
    configure_logging(level=logging.WARNING)
    with _emulator(settings, url_of(endpoint_url, None)) as (url, used):
        accuracy = _train_and_deploy(used, url, demo_training)
    if accuracy <= GOOD_ENOUGH:
        fail(f"accuracy on held-out digits is {accuracy:.3f}, not above {GOOD_ENOUGH}.")


@contextmanager
def _emulator(settings: Settings, given: str | None) -> Iterator[tuple[str, Settings]]:
    """The emulator that is given or runs, or one of the demo's own."""
    url = find_endpoint(settings, given).url
    if given or health(url):
        out.print(f"Using the emulator at {url}", markup=False)
        yield url, settings
        return
    with tempfile.TemporaryDirectory(prefix="sagemaker-emulator-demo-") as folder:
        # Nobody comes back to this folder.
        own = replace(settings, port=0, state_dir=Path(folder), leave_jobs=False)
        if own.runtime == "auto":
            # The demo needs no image.
            own = replace(own, runtime="process")
        with serving(own) as endpoint:
            out.print(f"Started an emulator for this demo at {endpoint.url}", markup=False)
            yield endpoint.url, own


def _train_and_deploy(settings: Settings, url: str, training: ModuleType) -> float:
    started = time.monotonic()
    digits = training.Digits.load()
    job = training.DemoJob(settings, url)
    remote = connect(settings, url)
    with plain_errors(remote), training.service_errors():
        _say("uploaded", job.upload(digits))
        job.submit()
        _say("submitted", f"{job.name}: {training.INSTANCES} instances, torchrun")
        end, last = _watch(JobReader(remote, job.name), training)
        took = time.monotonic() - started
        if end["TrainingJobStatus"] != "Completed" or last is None:
            fail(
                f"{job.name} {end['TrainingJobStatus']}: {end.get('FailureReason', 'no metrics')}.",
                "Check the machine with: sagemaker-emulator doctor",
                ExitCode.FAILED,
            )
        artifacts = end["ModelArtifacts"]["S3ModelArtifacts"]
        accuracy: float = job.held_out_accuracy(artifacts, digits)
        _say("metrics", f"train loss {last.loss:.4f}, test accuracy {last.accuracy:.3f} (its log)")
        _say("model", artifacts)
        _say("accuracy", f"{accuracy:.3f} on {len(digits.held_out)} held-out digits")
        _say("took", f"{took:.0f} s")
        return min(accuracy, _deploy(job, artifacts, digits))


def _deploy(job: Any, artifacts: str, digits: Any) -> float:
    """Serve the model, let it read the digits, and delete the endpoint."""
    started = time.monotonic()
    job.deploy(artifacts)
    _say("deploying", f"endpoint {job.name}")
    try:
        described = job.wait_until_served()
        if described["EndpointStatus"] != "InService":
            fail(
                f"endpoint {job.name} {described['EndpointStatus']}: "
                f"{described.get('FailureReason', 'no reason')}",
                "Check the machine with: sagemaker-emulator doctor",
                ExitCode.FAILED,
            )
        took = time.monotonic() - started
        accuracy: float = job.endpoint_accuracy(digits)
    finally:
        job.delete_endpoint()
    _say("endpoint", f"{accuracy:.3f} on the same digits; in service after {took:.0f} s, deleted")
    return accuracy


def _watch(reader: JobReader, training: ModuleType) -> tuple[dict[str, Any], Any]:
    """Show statuses and log lines as they come; gives the end and the last epoch's metrics."""
    last = None
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("Starting", total=training.EPOCHS)
        for item in reader.follow(time.sleep):
            if isinstance(item, Change):
                _say(item.status.lower(), item.message)
                progress.update(bar, description=item.status)
            elif isinstance(item, Line):
                # AWS's toolkit puts empty lines between the script's.
                if item.text.strip():
                    show_line(item)
                if epoch := training.Epoch.parse(item.text):
                    last = epoch
                    progress.update(
                        bar,
                        completed=epoch.number,
                        description=f"Training, accuracy {epoch.accuracy:.3f}",
                    )
            else:
                return item, last
    raise AssertionError("a followed job always ends with its description")


def _say(what: str, text: str) -> None:
    out.print(Text.assemble((f"{what:>12}", "bold green"), "  ", text))
