"""The embedded object store: SeaweedFS as a child process that ends with the emulator.

Measured with SeaweedFS 4.48: ready after 0.6–0.8 s, stopped after 1.1 s; 180 MB resident at
rest, 340 MB after gigabytes. Without GOMEMLIMIT it took over 4 GB after 600 MB of uploads.
"""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from io import RawIOBase
from pathlib import Path

from emulator.model.errors import SetupError
from emulator.storage import tether, weed
from emulator.storage.lock import StateLock

PAGE_SIZE = 10_000
"""Keys in a page of its listings. S3 gives a thousand; SeaweedFS gives what it is asked for, and
5 000 objects in one page take half the processor time here, and four waits less."""
_MEMORY = "400MiB"
_ATTEMPTS = 5
_READY = 30.0
_STOP = 10.0
_LOW_DISK = 64 << 20

log = logging.getLogger(__name__)


class EmbeddedStore:
    """An S3 server on loopback, its objects under `<state_dir>/objects`.

    `start` and `stop` belong to one owner; the other members may be used from any thread.
    """

    def __init__(self, state_dir: Path, access_key: str, secret_key: str):
        self._root = state_dir.resolve()
        self._data = self._root / "objects"
        self._config = self._root / "objects.s3.json"
        self._log = self._root / "objects.log"
        self._ports_file = self._root / "objects.ports.json"
        self._keys = (access_key, secret_key)
        self._lock: StateLock | None = None
        self._ports: weed.Ports | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._serving = False
        """Has the server answered, and has nobody stopped it? Only then its end is news."""

    @property
    def endpoint(self) -> str:
        """URL of the S3 server, once started."""
        if self._ports is None:
            raise SetupError("The embedded object store is not running.")
        return f"http://{weed.LOOPBACK}:{self._ports.http['s3']}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> EmbeddedStore:
        """Start the server and wait until it answers.

        Raises SetupError if the program is missing, another emulator uses the state
        directory, or the server does not come up (with the end of its log).
        """
        program = weed.find_program()
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = StateLock.take(self._root / "objects.lock")
            self._clean()
            self._write_config()
            self._start_on_free_ports(program)
        except OSError as error:
            self.stop()
            raise SetupError(
                f"The state directory {self._root} cannot be used: {error.strerror or error}.",
                "Give another one with --state-dir.",
            ) from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server (SIGTERM, then SIGKILL after 10 s); does nothing if it is not running."""
        self._serving = False
        process, self._process = self._process, None
        if process:
            _end(process)
        if self._ports:
            _remove_sockets(self._ports)
            self._ports = None
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> EmbeddedStore:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def trouble(self) -> str:
        """Why the store cannot work right now; "" while nothing is wrong."""
        if self._process is None:
            return "the embedded object store is not running"
        if (code := self._process.poll()) is not None:
            return f"the embedded object store ended ({code}): {self._last_words()}"
        free = shutil.disk_usage(self._data).free
        if free < _LOW_DISK:
            return f"the disk of {self._data} is full ({free >> 20} MiB left)"
        return ""

    def _start_on_free_ports(self, program: Path) -> None:
        for _ in range(_ATTEMPTS):
            self._ports = weed.Ports.free()
            self._ports_file.write_text(self._ports.dump())
            self._launch(program, self._ports)
            if self._answers(self._ports):
                self._serving = True
                return
            log.info("a port of the embedded object store was taken by another program")
            lost, self._process = self._process, None
            if lost:
                _end(lost)
            _remove_sockets(self._ports)
        raise SetupError(f"No free ports for the embedded object store after {_ATTEMPTS} tries.")

    def _launch(self, program: Path, ports: weed.Ports) -> None:
        started = threading.Event()
        failure: list[OSError] = []
        command = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(program)]
        command += weed.arguments(ports, self._config)

        def keep() -> None:
            # The kernel ties the child to the thread that made it: this one waits for its end.
            try:
                output = self._log.open("wb", buffering=0)
                process = subprocess.Popen(
                    command,
                    cwd=self._data,
                    # HOME: weed would take a security.toml from the user's own.
                    env={"HOME": str(self._data), "GOMEMLIMIT": _MEMORY},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # A Ctrl-C in the terminal is for the emulator, which stops the store last.
                    start_new_session=True,
                    # While weed lives the state directory stays locked.
                    pass_fds=[self._lock.descriptor] if self._lock else [],
                )
            except OSError as error:
                failure.append(error)
                started.set()
                return
            self._process = process
            started.set()
            with output, process:
                _keep_log(process, output)
            code = process.returncode
            if self._serving:
                log.error("the embedded object store ended (%s): %s", code, self._last_words())

        self._keeper = threading.Thread(target=keep, name="embedded-store", daemon=True)
        self._keeper.start()
        started.wait()
        if failure:
            raise failure[0]

    def _answers(self, ports: weed.Ports) -> bool:
        """Wait until the server answers; False if it lost one of its ports to someone else."""
        process = self._process
        deadline = time.monotonic() + _READY
        while process and time.monotonic() < deadline:
            ended = process.poll() is not None
            if ended and self._keeper:
                self._keeper.join(_STOP)  # then its last words are in the log
            if weed.lost_a_port(self._log_text()):
                return False
            if ended:
                raise SetupError(f"The embedded object store did not start: {self._last_words()}")
            if _responds(ports.http["s3"]):
                return True
            time.sleep(0.02)
        raise SetupError(
            f"The embedded object store gave no answer for {_READY:.0f} s: {self._last_words()}"
        )

    def _write_config(self) -> None:
        descriptor = os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(weed.s3_config(*self._keys))

    def _clean(self) -> None:
        """Remove what an earlier run left that does not hold objects."""
        try:
            _remove_sockets(weed.Ports.load(self._ports_file.read_text()))
        except (OSError, ValueError):
            log.debug("no ports of an earlier run in %s", self._ports_file)
        # weed remembers its options and, by port, who led the cluster: both are new each time.
        (self._data / "mini.options").unlink(missing_ok=True)
        for leadership in self._data.glob("m[0-9]*"):
            shutil.rmtree(leadership, ignore_errors=True)

    def _log_text(self) -> str:
        try:
            return self._log.read_text(errors="replace")
        except OSError:
            return ""

    def _last_words(self) -> str:
        return weed.last_words(self._log_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _keep_log(process: subprocess.Popen[bytes], output: RawIOBase) -> None:
    """Write down what the process says until it ends, also when the disk has no more room."""
    for line in process.stdout or ():
        if not weed.is_noise(line):
            with suppress(OSError):
                output.write(line)


def _remove_sockets(ports: weed.Ports) -> None:
    for path in ports.sockets:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s stays: %s", path, error)


def _responds(port: int) -> bool:
    connection = http.client.HTTPConnection(weed.LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
