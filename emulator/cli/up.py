"""up: start an emulator and keep it running."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from emulator.app import Emulator
from emulator.cli.certificates import authority, server_context
from emulator.cli.environment import (
    Endpoint,
    announce,
    client_environment,
    client_folder,
    proxy_port,
)
from emulator.cli.messages import err, fail, out
from emulator.cli.options import (
    ConfigFlag,
    HostFlag,
    PortFlag,
    RegionFlag,
    StateFlag,
    load_settings,
)
from emulator.cli.reach import health, unreachable
from emulator.cli.sts_proxy import StsProxy
from emulator.lifeline import when_unused
from emulator.model.errors import SetupError
from emulator.settings import Settings, unknown_variables

_OFFER_SECONDS = 3.0
_STOPPING = "[dim]Stopping …[/]"


def up(
    host: HostFlag = None,
    port: PortFlag = None,
    state_dir: StateFlag = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="auto, process or docker.")
    ] = None,
    python: Annotated[
        Path | None, typer.Option("--python", help="Interpreter of the process runtime.")
    ] = None,
    s3_endpoint: Annotated[
        str | None, typer.Option("--s3-endpoint", help="An S3 server instead of the embedded one.")
    ] = None,
    region: RegionFlag = None,
    config: ConfigFlag = None,
    stop_jobs: Annotated[
        bool, typer.Option("--stop-jobs", help="Jobs end with the emulator, none goes on alone.")
    ] = False,
    lifeline: Annotated[
        Path | None,
        typer.Option("--lifeline", hidden=True, help="End once no process locks this file."),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log more.")] = False,
) -> None:
    """Start the emulator and keep it running until Ctrl-C."""
    settings = load_settings(
        host=host,
        port=port,
        state_dir=state_dir,
        runtime=runtime,
        python=python,
        s3_endpoint=s3_endpoint,
        region=region,
        config=config,
        leave_jobs=False if stop_jobs else None,
    )
    configure_logging(level=logging.DEBUG if verbose else logging.INFO)
    for name, advice in unknown_variables(os.environ).items():
        note = f"{name} is no setting and has no effect. {advice}".rstrip()
        err.print(f"[bold yellow]warning:[/] {escape(note)}")
    ending = Ending()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ending)
    if lifeline:
        when_unused(lifeline, ending.asked.set)
    with serving(settings, ending.jobs.is_set) as endpoint:
        show(settings, endpoint)
        if settings.s3_endpoint and (problem := unreachable(settings.s3_endpoint)):
            err.print(f"[bold yellow]warning:[/] S3: {escape(problem)}. Jobs need it.")
        ending.asked.wait()
        if ending.interrupted and err.is_terminal:
            offer_to_end_jobs(ending, settings, health(endpoint.url, timeout=5) or {})
        ending.stopping = True
        err.print("[dim]Stopping, and the jobs with it …[/]" if ending.jobs.is_set() else _STOPPING)


class Ending:
    """What signals do: the first ends the emulator, a second one its jobs as well.

    One that comes while it is ending does not wait for that.
    """

    def __init__(self, leave: Callable[[int], object] = os._exit):
        """`leave` ends this process at once, with an exit code."""
        self.asked = threading.Event()
        self.interrupted = False
        """Somebody sits at the terminal."""
        self.jobs = threading.Event()
        """No job shall go on without the emulator."""
        self.stopping = False
        self._leave = leave

    def __call__(self, number: int, _: object) -> None:
        if self.stopping or self.jobs.is_set():
            os.write(sys.stderr.fileno(), b"Not waiting: the next start settles what is left.\n")
            self._leave(128 + number)
        elif self.asked.is_set():
            self.jobs.set()
        else:
            self.interrupted = number == signal.SIGINT
            self.asked.set()


def offer_to_end_jobs(
    ending: Ending, settings: Settings, said: dict[str, Any], seconds: float = _OFFER_SECONDS
) -> None:
    """Wait for a second Ctrl-C where jobs would go on; `said` is the emulator's health answer."""
    count = said.get("jobs", {}).get("running", 0)
    if count and _jobs_go_on(settings, said):
        jobs, them = ("1 job goes", "it") if count == 1 else (f"{count} jobs go", "them")
        err.print(
            f"{jobs} on without the emulator, and the next start takes {them} over. "
            f"Ctrl-C within {seconds:.0f} s ends {them}, too."
        )
        ending.jobs.wait(seconds)


@contextmanager
def serving(settings: Settings, end_jobs: Callable[[], bool] = bool) -> Iterator[Endpoint]:
    """A running emulator with its STS proxy; ends the command in one line if it cannot start.

    `end_jobs` is asked at the end whether jobs end with it that could go on.
    """
    with ExitStack() as stack:
        try:
            endpoint = _start(settings, stack, end_jobs)
        except SetupError as error:
            fail(error.problem, error.remedy)
        except OSError as error:
            fail(*explain(error, settings))
        yield endpoint


def explain(error: OSError, settings: Settings) -> tuple[str, str]:
    """What keeps an emulator from starting, and what to do about it."""
    if error.errno == errno.EADDRINUSE:
        advice = "Stop what uses it, or choose another one with --port."
        return f"port {settings.port} is taken.", advice
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{settings.host} is no address of this machine.", "Choose another --host."
    return f"it cannot start: {error}.", "Choose another --state-dir or --port."


def _start(settings: Settings, stack: ExitStack, end_jobs: Callable[[], bool]) -> Endpoint:
    emulator = stack.enter_context(Emulator.running(settings))
    stack.callback(lambda: emulator.leave_no_job() if end_jobs() else None)
    certificates = authority(client_folder(settings))
    tls = server_context(certificates)
    proxy = StsProxy(emulator.url, tls, os.environ, settings.proxy_host)
    proxy_url = stack.enter_context(proxy.serve(proxy_port(settings)))
    endpoint = Endpoint(emulator.url, proxy_url, emulator.admin_token, page=emulator.page)
    # For clients that do not evaluate `env`: a container that mounts these files.
    client_environment(settings, os.environ, endpoint)
    announced = announce(settings, endpoint)
    stack.callback(announced.unlink, missing_ok=True)
    return endpoint


def configure_logging(*, level: int) -> None:
    """Log to stderr: warnings of everything, and the emulator's own words from `level` on."""
    handler: logging.Handler = RichHandler(console=err, show_path=False)
    form = "%(message)s"
    if not err.is_terminal:  # nothing in a file needs columns
        handler, form = logging.StreamHandler(), "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, datefmt="%H:%M:%S", handlers=[handler])
    logging.getLogger("emulator").setLevel(level)


def show(settings: Settings, endpoint: Endpoint) -> None:
    """Say what runs where, and what to paste."""
    said = health(endpoint.url, timeout=10) or {}
    lines = rows(settings, endpoint, said)
    state_dir = Path(said.get("state_dir", settings.state_dir))
    command = f'eval "$(sagemaker-emulator env{_env_flags(state_dir)})"'
    if not out.is_terminal:
        for name, value in lines:
            out.print(f"{name}: {value}", markup=False)
        out.print(f"ready: {command}", markup=False)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in lines:
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    out.print(Panel(table, title="sagemaker-emulator", title_align="left", border_style="green"))
    out.print("In another terminal:\n")
    out.print(f"  {command}", style="bold", markup=False)
    out.print("  python your_script.py\n", style="bold")
    out.print(f"[dim]{at_ctrl_c(settings, said)}[/]")


def at_ctrl_c(settings: Settings, said: dict[str, Any]) -> str:
    """What Ctrl-C does, from the settings and the emulator's health answer."""
    if _jobs_go_on(settings, said):
        return (
            "Ctrl-C stops the emulator; jobs go on, and the next start takes them over. "
            "A second Ctrl-C ends them, too."
        )
    return "Ctrl-C stops the emulator and what runs; jobs that have ended are kept."


def _jobs_go_on(settings: Settings, said: dict[str, Any]) -> bool:
    return settings.leave_jobs and bool(said.get("runtime", {}).get("lasting"))


def rows(settings: Settings, endpoint: Endpoint, said: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts that `up` shows, from the emulator's health answer."""
    runtime, store = said.get("runtime", {}), said.get("object_store", {})
    return [
        ("endpoint", endpoint.url),
        *([("page", endpoint.page)] if endpoint.page else []),
        ("runtime", _with_reason(runtime.get("name", "?"), runtime.get("reason", ""))),
        ("S3", _with_reason(store.get("kind", "?"), store.get("endpoint", ""))),
        ("state", str(said.get("state_dir", settings.state_dir))),
        ("python", str(settings.python)),
    ]


def _with_reason(name: str, reason: str) -> str:
    return f"{name} ({reason})" if reason else name


def _env_flags(state_dir: Path) -> str:
    """What `env` must be told to find the emulator of this state directory."""
    if state_dir == Settings().state_dir:
        return ""
    return f" --state-dir {shlex.quote(str(state_dir))}"
