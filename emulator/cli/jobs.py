"""jobs, describe, stop: what runs on an emulator and what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Annotated, Any
from zlib import crc32

import typer
from rich.table import Table
from rich.text import Text

from emulator.cli.follow import Line
from emulator.cli.kinds import KINDS, JobKind, kind_of
from emulator.cli.messages import ExitCode, err, fail, note, out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import TERMINAL, Remote, connect, pages, plain_errors
from emulator.model.errors import ApiError

JobName = Annotated[str, typer.Argument(help="Name of the job.", show_default=False)]
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
_DETAILED = 1000
"""The most jobs in one answer of the emulator's own routes."""
_REASON_WIDTH = 100
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
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List training and processing jobs, newest first."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    wanted = {"StatusEquals": _status(status)} if status else {}
    with plain_errors(remote):
        listings = [_listing(remote, kind, limit, wanted) for kind in KINDS]
        newest_first = merge(*listings, key=lambda job: job["CreationTime"], reverse=True)
        found = list(islice(newest_first, limit))
        details = {} if as_json else _details(remote, limit)
    if as_json:
        print_json(found)
    else:
        out.print(_table(found, details) if found else "No jobs.")


def _details(remote: Remote, limit: int) -> dict[tuple[str, str], dict[str, Any]]:
    """What AWS's listings do not tell, by kind and name; nothing from an emulator that refuses.

    That is one on another machine, whose token this shell does not have, or an older one.
    """
    try:
        page = remote.ask("/v1/jobs", limit=min(limit, _DETAILED))
    except ApiError:
        return {}
    return {(job["kind"], job["name"]): job for job in page["jobs"]}


def _listing(
    remote: Remote, kind: JobKind, limit: int, wanted: dict[str, str]
) -> Iterator[dict[str, Any]]:
    return pages(
        remote.sagemaker,
        f"List{kind.word}Jobs",
        f"{kind.word}JobSummaries",
        **wanted,
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=min(limit, PAGE),
    )


def _status(given: str) -> str:
    """A status in any case; ends the command where there is none such."""
    known = {status.lower(): status for status in STATUS_STYLES}
    if given.lower() not in known:
        fail(
            f"there is no status {given}.",
            f"There are: {', '.join(STATUS_STYLES)}.",
            ExitCode.USAGE,
        )
    return known[given.lower()]


def describe(
    job: JobName,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Print everything Describe says of a job, as JSON."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    with plain_errors(remote, job):
        described = remote.describe(job, remote.kind_of(job))
    print_json(described)


def stop(
    job: JobName,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the job has ended.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="SIGKILL at once; what it has written is uploaded.")
    ] = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Stop a job: SIGTERM, and SIGKILL two minutes later."""
    settings = load_settings(state_dir=state_dir, config=config)
    remote = connect(settings, endpoint_url, port)
    with plain_errors(remote, job):
        kind = remote.kind_of(job)
        remote.call("Stop", kind, job)
        if now:
            remote.administer(f"{kind.admin_path}/{job}/kill")
        if wait:
            status = _count_down(remote, job, kind, settings.stop_grace_seconds)
        else:
            status = kind.status(remote.describe(job, kind))
    out.print(f"{job}: {_status_markup(status)}")


def _count_down(remote: Remote, job: str, kind: JobKind, grace: float) -> str:
    """Wait for the end, and tell how long the instances still have; returns the last status."""
    begun = time.monotonic()
    with err.status("") as shown:
        while (status := kind.status(remote.describe(job, kind))) not in TERMINAL:
            left = grace - (time.monotonic() - begun)
            shown.update(
                f"{job} has SIGTERM, and {left:.0f} s until SIGKILL"
                if left > 0
                else f"{job} is being ended, and its outputs are uploaded"
            )
            time.sleep(1)
    return status


def hosts_of(described: dict[str, Any]) -> list[str]:
    """The names of a job's instances."""
    return [f"algo-{n + 1}" for n in range(kind_of(described).instances(described))]


def show_line(line: Line) -> None:
    """One log line with its instance's name, in the instance's colour."""
    last = line.host.rpartition("-")[2]
    number = int(last) if last.isdecimal() else crc32(last.encode())
    style = HOST_STYLES[(number - 1) % len(HOST_STYLES)]
    # Text, not markup: a log line may hold anything.
    out.print(Text.assemble((line.host, style), " │ ", line.text))


def show_end(described: dict[str, Any]) -> None:
    """How the job ended, to stderr."""
    reason = f": {described['FailureReason']}" if "FailureReason" in described else ""
    kind = kind_of(described)
    note(f"{kind.name(described)} {kind.status(described)}{reason}")


def print_json(value: Any) -> None:
    """JSON for programs: no colours, times in ISO 8601."""
    out.print(Text(json.dumps(value, indent=2, default=_iso)), soft_wrap=True)


def _table(found: list[dict[str, Any]], details: dict[tuple[str, str], dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    headings = ["JOB", "KIND", "STATUS", "SECONDARY", "CREATED", "TOOK"]
    for heading in [*headings, "INSTANCES", "GPUS", "WHY"] if details else headings:
        table.add_column(heading, overflow="fold")
    for job in found:
        kind = kind_of(job)
        more = details.get((f"{kind.word.lower()}-job", kind.name(job)))
        table.add_row(
            Text(kind.name(job)),
            kind.word.lower(),
            _status_markup(kind.status(job)),
            job.get("SecondaryStatus", ""),
            job["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            f"{seconds_taken(job, datetime.now().astimezone()):.0f} s",
            *(_more(more) if more else ()),
        )
    return table


def _more(job: dict[str, Any]) -> tuple[str | Text, ...]:
    """Instances, GPUs, and why the job waits or has failed."""
    reason = " ".join(str(job["reason"]).split())
    shown = reason if len(reason) <= _REASON_WIDTH else f"{reason[: _REASON_WIDTH - 1]}…"
    return (
        f"{job['instances']} × {job['instance_type']}",
        str(job["gpus"] or ""),
        Text(shown),
    )


def seconds_taken(job: dict[str, Any], now: datetime) -> float:
    """From the creation of a job, as List gives it, to its end or until now."""
    kind = kind_of(job)
    end: datetime | None = job.get(f"{kind.word}EndTime")
    if end is None:
        # A job that was stopped before it had instances never trained (API reference).
        end = job["LastModifiedTime"] if kind.status(job) in TERMINAL else now
    took: timedelta = end - job["CreationTime"]
    return max(took.total_seconds(), 0.0)


def _status_markup(status: str) -> str:
    return f"[{STATUS_STYLES.get(status, 'default')}]{status}[/]"


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
