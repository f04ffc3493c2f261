"""The program: prepares, loads the model, serves until SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from .catalog import SINGLE, Catalog
from .http_server import Server
from .models import CannotLoadError, log
from .settings import Settings, SettingsError, read_settings

_FAILED = b"\0"
"""On the pipe that wakes the server; a signal's number is never 0."""


class CannotServeError(Exception):
    """Why no server can be started; the text says what to do."""


def main() -> int:
    """Serve; gives the exit code: 0 after SIGTERM, 1 for what cannot be served."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        settings = read_settings(os.environ)
        listening = _bind(settings.port)
        if not settings.multi_model:
            _install_requirements(settings.model / "code" / "requirements.txt")
        if settings.toolkit:
            _require_toolkit()
        return _serve(settings, listening)
    except CannotLoadError as error:
        # The traceback is in the log already: the process that loads the model writes it.
        reason = str(error).strip().splitlines()[-1]
        log(f"the model cannot be loaded: {reason}")
    except (SettingsError, CannotServeError) as error:
        log(str(error))
    return 1


def _serve(settings: Settings, listening: socket.socket) -> int:
    waking, wake = os.pipe()
    os.set_blocking(wake, False)
    catalog = Catalog(settings, on_failure=lambda: _write(wake))
    if not settings.multi_model:
        catalog.load(SINGLE, settings.model)
    server = Server(
        listening,
        catalog,
        multi_model=settings.multi_model,
        body_limit=settings.body_limit,
    )
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, _wake)
    signal.signal(signal.SIGINT, _wake)
    # Connections are refused until here: `/ping` is never answered before the model is loaded.
    reason = server.serve(waking)
    catalog.abandon_loads()
    server.drain()
    catalog.close()
    return 1 if reason == _FAILED else 0


def _bind(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("0.0.0.0", port))  # noqa: S104 - a container's address
    except OSError as error:
        raise CannotServeError(f"cannot use port {port}: {error.strerror}") from None
    return listening


def _install_requirements(file: Path) -> None:
    if not file.exists():
        return
    log(f"installing {file}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-r", str(file)],
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise CannotServeError(
            f"pip cannot install {file} (its messages are above). A model with network isolation "
            "reaches no package index: there, what it needs must be in the image, or, in the "
            "process runtime, in the Python environment."
        )


def _require_toolkit() -> None:
    """Raise CannotServeError if the user's interpreter lacks AWS's packages."""
    needed = {"sagemaker_inference": "sagemaker-inference"}
    if find_spec("torch"):
        needed["sagemaker_pytorch_serving_container"] = "sagemaker-pytorch-inference"
    missing = [package for module, package in needed.items() if not find_spec(module)]
    if missing:
        raise CannotServeError(
            f"{sys.executable} has no {' and no '.join(missing)}: run `{sys.executable} -m pip "
            "install sagemaker-inference sagemaker-pytorch-inference` (the extra "
            "`sagemaker-emulator[serving]`)"
        )


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End before the model is loaded."""
    sys.exit(0)


def _wake(_number: int, _frame: FrameType | None) -> None:
    """The number of the signal is written to the pipe by `set_wakeup_fd`."""


def _write(wake: int) -> None:
    os.write(wake, _FAILED)
