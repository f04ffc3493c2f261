"""top: the machine in the terminal, live."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emulator.cli.curves import bars
from emulator.cli.jobs import STATUS_STYLES
from emulator.cli.messages import out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import connect, plain_errors

_SHOWN = 12
"""Jobs of the queue, and running jobs."""
_HISTORY = 30


def top(
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Between two looks.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look once; so does a command without a terminal.")
    ] = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Show GPUs, the queue and running jobs, live until Ctrl-C."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)

    def look() -> RenderableType:
        jobs = remote.ask("/v1/jobs?status=InProgress&status=Stopping", limit=100)["jobs"]
        return view(remote.ask("/v1/machine"), jobs, time.time())

    with plain_errors(remote):
        if once or not out.is_terminal:
            out.print(look())
            return
        try:
            with Live(look(), console=out, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(seconds)
                    live.update(look(), refresh=True)
        except KeyboardInterrupt:
            return


def view(machine: dict[str, Any], jobs: list[dict[str, Any]], now: float) -> RenderableType:
    """What is shown of an answer of /v1/machine and of the jobs that have not ended."""
    parts: list[RenderableType] = [_head(machine), Text()]
    if machine["gpus"]:
        parts += [_gpus(machine["gpus"], now), Text()]
    running = [job for job in jobs if not _waits(job)]
    parts += [_running(running, now), Text(), _queue(machine, now)]
    return Group(*parts)


def _waits(job: dict[str, Any]) -> bool:
    return job["status"] == "InProgress" and bool(job["reason"])


def _head(machine: dict[str, Any]) -> Text:
    memory = machine["memory"]
    free = machine["disk"]["total"] - machine["disk"]["used"]
    cpu = machine["cpu_percent"] or 0
    return Text.assemble(
        ("sagemaker-emulator ", "bold"),
        f"{machine['version']}, {machine['runtime']}   ",
        ("CPU ", "dim"),
        f"{cpu:.0f}% of {machine['cores']} cores   ",
        ("memory ", "dim"),
        f"{memory['used'] / 2**30:.1f} of {memory['total'] / 2**30:.0f} GiB   ",
        ("disk ", "dim"),
        f"{free / 1e9:.0f} GB free",
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    return table


def _gpus(gpus: list[dict[str, Any]], now: float) -> Table:
    table = _table("GPU", "NAME", "USE", "LAST MINUTES", "MEMORY", "HELD BY", "SINCE")
    for gpu in gpus:
        holder, busy, used = gpu["holder"], gpu["busy_percent"], gpu["used_mib"]
        who = "free"
        if holder:
            who = f"{holder['name']} {','.join(holder['instances'])}"
            who += " (warm pool)" if holder["pool"] else ""
        elif gpu["processes"]:
            who = f"others: {', '.join(str(one['pid']) for one in gpu['processes'])}"
        table.add_row(
            str(gpu["index"]),
            Text(gpu["name"]),
            "" if busy is None else f"{busy:.0f}%",
            Text(bars(_thinned(gpu["busy_history"]), _HISTORY), "cyan"),
            f"{(used or 0) / 1024:.0f}/{gpu['memory_mib'] / 1024:.0f} GiB",
            Text(f"{who}{' NOT USED' if gpu['idle_since'] else ''}", "" if holder else "green"),
            _ago(now - holder["since"]) if holder else "",
        )
    return table


def _thinned(history: list[float]) -> list[float]:
    step = max(1, len(history) // _HISTORY)
    return history[::-1][::step][::-1]


def _running(jobs: list[dict[str, Any]], now: float) -> Table:
    table = _table("JOB", "STATUS", "PHASE", "INSTANCES", "GPUS", "FOR", "METRICS")
    for job in jobs[:_SHOWN]:
        values = [f"{name} {value:.5g}" for name, value in job["metrics"].items()]
        table.add_row(
            Text(job["name"]),
            Text(job["status"], STATUS_STYLES.get(job["status"], "")),
            job["phase"],
            f"{job['instances']} × {job['instance_type']}",
            str(job["gpus"] or ""),
            _ago(now - job["created"]),
            Text("  ".join(values)),
        )
    if not jobs:
        table.add_row(Text("none runs", "dim"))
    return table


def _queue(machine: dict[str, Any], now: float) -> Table:
    table = _table("QUEUE", "INSTANCES", "WAITS", "WHY")
    for job in machine["queue"][:_SHOWN]:
        table.add_row(
            Text(f"{job['place']}. {job['name']}"),
            f"{job['instances']} × {job['instance_type']}",
            _ago(now - job["since"]),
            Text(job["reason"]),
        )
    left = machine["queue_length"] - min(_SHOWN, len(machine["queue"]))
    if left:
        table.add_row(Text(f"and {left} more", "dim"))
    elif not machine["queue"]:
        table.add_row(Text("empty", "dim"))
    return table


def _ago(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
