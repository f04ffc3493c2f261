"""jobs, describe, logs, stop: what runs on an emulator and what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from emulator.cli.follow import Change, JobReader, Line
from emulator.cli.messages import ExitCode, note, out
from emulator.cli.options import ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import TERMINAL, Remote, connect, pages, plain_errors

JobName = Annotated[str, typer.Argument(help="Name of the training job.", show_default=False)]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

STATUS_STYLES = {
    "InProgress": "cyan",
    "Completed": "green",
    "Failed": "bold red",
    "Stopping": "yellow",
    "Stopped": "yellow",
}
PAGE = 100
"""Jobs in one answer, the most that the service gives."""
HOST_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "bright_red")


def jobs(
    status: Annotated[
        str | None, typer.Option("--status", help="Only jobs of this status, e.g. InProgress.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="At most so many, newest first.")
    ] = 50,
    as_json: JsonFlag = False,
    endpoint_url: EndpointFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List training jobs, newest first."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url)
    wanted = {"StatusEquals": status} if status else {}
    listing = pages(
        remote.sagemaker,
        "ListTrainingJobs",
        "TrainingJobSummaries",
        **wanted,
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=min(limit, PAGE),
    )
    with plain_errors(remote):
        found = list(islice(listing, limit))
    if as_json:
        print_json(found)
    else:
        out.print(_table(found) if found else "No training jobs.")


def describe(
    job: JobName,
    endpoint_url: EndpointFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Print everything DescribeTrainingJob says, as JSON."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url)
    with plain_errors(remote, job):
        described = remote.describe(job)
    print_json(described)


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until the job ends.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="One instance, e.g. algo-1.")] = None,
    endpoint_url: EndpointFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Print a job's log; with -f also what comes, and exit code 1 if the job failed."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url)
    reader = JobReader(remote, job, host)
    with plain_errors(remote, job):
        if not follow:
            remote.describe(job)
            for line in reader.lines():
                show_line(line)
            return
        end = _show_until_end(reader.follow(time.sleep))
    show_end(end)
    if end["TrainingJobStatus"] == "Failed":
        raise typer.Exit(ExitCode.FAILED)


def stop(
    job: JobName,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the job has ended.")] = False,
    endpoint_url: EndpointFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Stop a training job: SIGTERM, and SIGKILL two minutes later."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url)
    with plain_errors(remote, job):
        remote.sagemaker.call("StopTrainingJob", TrainingJobName=job)
        described = wait_for_end(remote, job) if wait else remote.describe(job)
    out.print(f"{job}: {_status_markup(described['TrainingJobStatus'])}")


def wait_for_end(remote: Remote, job: str) -> dict[str, Any]:
    """The job's description once its status is terminal."""
    while (described := remote.describe(job))["TrainingJobStatus"] not in TERMINAL:
        time.sleep(1)
    return described


def show_line(line: Line) -> None:
    """One log line with its instance's name, in the instance's colour."""
    number = int(line.host.rpartition("-")[2]) if line.host[-1:].isdigit() else 0
    style = HOST_STYLES[(number - 1) % len(HOST_STYLES)]
    # Text, not markup: a log line may hold anything.
    out.print(Text.assemble((line.host, style), " │ ", line.text))


def show_end(described: dict[str, Any]) -> None:
    """How the job ended, to stderr."""
    reason = f": {described['FailureReason']}" if "FailureReason" in described else ""
    note(f"{described['TrainingJobName']} {described['TrainingJobStatus']}{reason}")


def print_json(value: Any) -> None:
    """JSON for programs: no colours, times in ISO 8601."""
    out.print(Text(json.dumps(value, indent=2, default=_iso)), soft_wrap=True)


def _show_until_end(items: Iterator[Line | Change | dict[str, Any]]) -> dict[str, Any]:
    for item in items:
        if isinstance(item, Line):
            show_line(item)
        elif isinstance(item, Change):
            note(f"{item.status} – {item.message}")
        else:
            return item
    raise AssertionError("a followed job always ends with its description")


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("TRAINING JOB", "STATUS", "SECONDARY", "CREATED", "TOOK"):
        table.add_column(heading, overflow="fold")
    for job in found:
        table.add_row(
            Text(job["TrainingJobName"]),
            _status_markup(job["TrainingJobStatus"]),
            job.get("SecondaryStatus", ""),
            job["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            f"{seconds_taken(job, datetime.now().astimezone()):.0f} s",
        )
    return table


def seconds_taken(job: dict[str, Any], now: datetime) -> float:
    """From the creation of a job, as ListTrainingJobs gives it, to its end or until now."""
    end: datetime | None = job.get("TrainingEndTime")
    if end is None:
        # A job that was stopped before it had instances never trained (API reference).
        end = job["LastModifiedTime"] if job["TrainingJobStatus"] in TERMINAL else now
    took: timedelta = end - job["CreationTime"]
    return max(took.total_seconds(), 0.0)


def _status_markup(status: str) -> str:
    return f"[{STATUS_STYLES.get(status, 'default')}]{status}[/]"


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
