"""One emulator for all processes of a test run, started by the first that needs it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.data.state_lock import LOCK_FILE, StateLock
from emulator.lifeline import Lifeline
from emulator.model.errors import SetupError

START_SECONDS = 120.0
END_SECONDS = 60.0
LIFELINE = "lifeline"
"""Name of the file, see lifeline.py."""
_READY = "ready.json"
_LOG = "emulator.log"


class EmulatorDidNotStart(Exception):
    """The emulator of the test run ended, or was silent for too long; the text is its output."""


@dataclass(frozen=True)
class Ready:
    """An emulator that answers."""

    pid: int
    exports: Mapping[str, str]
    """The variables that point AWS clients at it, as `sagemaker-emulator env` gives them."""


class SharedEmulator:
    """A process's part in the emulator of a run; all of them name the same directory."""

    def __init__(self, directory: Path, runtime: str):
        """`directory` exists; the emulator's state lies below it."""
        self._directory = directory
        self._runtime = runtime
        self._lifeline = Lifeline(directory / LIFELINE)

    def join(self) -> Ready:
        """The emulator that answers, after starting it where none does.

        Raises EmulatorDidNotStart.
        """
        with (self._directory / "starting").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._running() or self._start()

    @property
    def log(self) -> Path:
        """What the emulator itself has said."""
        return self._directory / _LOG

    def leave(self) -> None:
        """This process needs it no more; the last one to leave ends it."""
        self._lifeline.let_go()

    def _running(self) -> Ready | None:
        with suppress(OSError, ValueError, KeyError):
            said = json.loads((self._directory / _READY).read_text(encoding="utf-8"))
            ask(said["exports"]["AWS_ENDPOINT_URL"], "/_emulator/health")
            return Ready(said["pid"], said["exports"])
        return None

    def _start(self) -> Ready:
        state = self._directory / "state"
        command = [sys.executable, "-m", "emulator"]
        where = ["--state-dir", str(state), "--port", "0"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "up", *where, "--lifeline", str(self._directory / LIFELINE)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **_own_environment(),
                    "EMULATOR_RUNTIME": self._runtime,
                    # Nobody comes back to this state directory.
                    "EMULATOR_LEAVE_JOBS": "false",
                },
                # Ctrl-C is for pytest, whose fixtures still need the emulator while they end.
                start_new_session=True,
            )
        self._wait(process, state / "client" / "running.json")
        printed = subprocess.run(
            [*command, "env", *where, "--json"],
            env=_own_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if printed.returncode:
            process.terminate()
            raise EmulatorDidNotStart(printed.stderr)
        ready = Ready(process.pid, json.loads(printed.stdout))
        text = json.dumps({"pid": ready.pid, "exports": dict(ready.exports)})
        (self._directory / _READY).write_text(text, encoding="utf-8")
        return ready

    def _wait(self, process: subprocess.Popen[bytes], announced: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not announced.exists():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise EmulatorDidNotStart(self.log.read_text(encoding="utf-8", errors="replace"))
            time.sleep(0.05)


def ask(url: str, path: str, method: str = "GET", body: object = None) -> Any:
    """The JSON that an emulator answers on one of its own routes; None for an empty answer.

    Never through a proxy. Raises OSError, with the answer's text for an HTTP error.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"content-type": "application/json"}
    request = urllib.request.Request(url + path, data, headers, method=method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise OSError(f"{method} {path}: {error.code} {error.read().decode()}") from error
    return json.loads(text) if text else None


def remove_run(directory: Path) -> None:
    """Wait for the emulator of a run that everybody has left, then remove its files."""
    lock = directory / "state" / LOCK_FILE
    if lock.exists():
        with suppress(SetupError):
            StateLock.take(lock, wait=END_SECONDS).release()
    shutil.rmtree(directory, ignore_errors=True)


def _own_environment() -> dict[str, str]:
    """What the emulator itself is started with: it must not take itself for AWS."""
    return {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
