"""metrics: the curves of a job in the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from emulator.cli.curves import curve
from emulator.cli.jobs import HOST_STYLES, JobName, JsonFlag, print_json
from emulator.cli.messages import fail, out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import Remote, connect, plain_errors

_HEIGHT = 9
_WIDEST = 120


def metrics(
    job: JobName,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Only this metric; it may be repeated.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic scale.")] = False,
    as_json: JsonFlag = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Draw a job's metrics: every value that its script printed."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    with plain_errors(remote, job):
        series = read_series(remote, job)
    found = [one for one in series if not name or one["name"] in name]
    if as_json:
        print_json(found)
        return
    if not found:
        known = ", ".join(dict.fromkeys(one["name"] for one in series))
        fail(
            f"no value of {' or '.join(name or ['any metric'])} has been found in the output.",
            f"There are: {known}." if known else "MetricDefinitions say what to look for.",
        )
    for number, one in enumerate(found):
        _draw(one, number, log)


def read_series(remote: Remote, job: str) -> list[dict[str, Any]]:
    """All points of all metrics of a job; raises NoSuchJob, ApiError and ConnectionError."""
    kind = remote.kind_of(job)
    merged: dict[tuple[str, str | None], dict[str, Any]] = {}
    page: dict[str, Any] = {"cursor": 0, "more": True}
    while page["more"]:
        page = remote.ask(f"{kind.v1_path}/{job}/metrics", after=page["cursor"])
        for one in page["series"]:
            known = merged.setdefault(
                (one["name"], one["instance"]), {**one, "at": [], "values": []}
            )
            known["at"] += one["at"]
            known["values"] += one["values"]
    return list(merged.values())


def _draw(one: dict[str, Any], number: int, log: bool) -> None:
    values = one["values"]
    title = f"{one['name']} {one['instance']}" if one["instance"] else one["name"]
    style = HOST_STYLES[number % len(HOST_STYLES)]
    facts = (
        f"  {len(values)} points, last {values[-1]:.5g}, "
        f"lowest {min(values):.5g}, highest {max(values):.5g}"
    )
    out.print(Text.assemble((title, "bold"), (facts, "dim")))
    for line in curve(values, min(out.width, _WIDEST), _HEIGHT, log=log):
        label, axis, drawn = line.partition("┤")
        out.print(Text.assemble((label + axis, "dim"), (drawn, style)))
    out.print()
