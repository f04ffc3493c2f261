"""logs: what the instances of a job or an endpoint have written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from emulator.cli import endpoints
from emulator.cli.follow import Change, JobReader, Line
from emulator.cli.jobs import hosts_of, show_end, show_line
from emulator.cli.kinds import JobKind
from emulator.cli.messages import ExitCode, fail, note
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import NoSuchJob, Remote, connect, plain_errors


def logs(
    job: Annotated[str, typer.Argument(help="Name of a job, or of an endpoint.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until it ends.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="One instance, e.g. algo-1.")] = None,
    endpoint: Annotated[
        bool, typer.Option("--endpoint", help="Of the endpoint of that name, not of a job.")
    ] = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Print the log of a job or an endpoint; with -f also what comes, until it ends."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    with plain_errors(remote, job):
        kind = None if endpoint else _kind_of(remote, job)
        if kind is None:
            endpoints.show_log(remote, job, follow, host)
            return
        reader = JobReader(remote, job, host, kind)
        described = remote.describe(job, kind)
        if host and host not in (hosts := hosts_of(described)):
            fail(f"the job {job} has no instance {host}.", f"It has: {', '.join(hosts)}.")
        if not follow:
            for line in reader.lines():
                show_line(line)
            return
        end = _show_until_end(reader.follow(time.sleep))
    show_end(end)
    if kind.status(end) == "Failed":
        raise typer.Exit(ExitCode.FAILED)


def _kind_of(remote: Remote, name: str) -> JobKind | None:
    """What kind of job has that name; None where only an endpoint has it. Raises NoSuchJob."""
    try:
        return remote.kind_of(name)
    except NoSuchJob:
        if not endpoints.exists(remote, name):
            raise
        return None


def _show_until_end(items: Iterator[Line | Change | dict[str, Any]]) -> dict[str, Any]:
    for item in items:
        if isinstance(item, Line):
            show_line(item)
        elif isinstance(item, Change):
            note(f"{item.status} – {item.message}")
        else:
            return item
    raise AssertionError("a followed job always ends with its description")
