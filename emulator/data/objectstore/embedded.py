"""The embedded object store: SeaweedFS as a child process that ends with the emulator.

Measured with SeaweedFS 4.48: ready after 0.6–0.8 s, stopped after 1.1 s; 180 MB resident at
rest, 340 MB after gigabytes. Without GOMEMLIMIT it took over 4 GB after 600 MB of uploads.

A thread supervises the server: one that ends by itself (or is killed) is started again on the same
data and the same S3 port; one that hangs is killed first. Another thread has the space of deleted
objects given back to the disk.
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
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path

from emulator.data.objectstore import pdeathsig as tether
from emulator.data.objectstore import weed
from emulator.data.objectstore.availability import Availability
from emulator.data.state_lock import StateLock
from emulator.model.errors import SetupError

PAGE_SIZE = 10_000
"""Keys in a page of its listings. S3 gives a thousand; SeaweedFS gives what it is asked for, and
5 000 objects in one page take half the processor time here, and four waits less."""
_MEMORY = "400MiB"
_ATTEMPTS = 5
_READY = 30.0
_STOP = 10.0
_LOW_DISK = 64 << 20
"""Bytes: what fails with less free fails for want of them."""
STEADY_SECONDS = 10.0
"""A server that ended sooner waits before it is started again, longer every time."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
VACUUM_SECONDS = 30.0
"""Between two looks for the space of deleted objects; SeaweedFS itself looks every 15 minutes."""
PROBE_SECONDS = 5.0
"""Between two questions whether the server still answers."""
SILENT_SECONDS = 10.0
"""Without any answer the store counts as away."""
HUNG_SECONDS = 30.0
"""Without any answer the server is killed and started again: boto3 waits 60 s for an answer."""
_GARBAGE = 0.1
"""The part of a volume that must be deleted before the rest of it is copied to a smaller one."""
_VACUUM_TIMEOUT = 600.0
_NOT_RUNNING = "the embedded object store is not running"

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
        self._server: _Server | None = None
        self._supervisor: threading.Thread | None = None
        self._vacuum: threading.Thread | None = None
        self._stopping = threading.Event()
        self._ready: Future[None] = Future()
        self._down = _NOT_RUNNING
        self.availability = Availability(lambda: self._down)

    @property
    def endpoint(self) -> str:
        """URL of the S3 server, once started; a restart does not change it."""
        if self._ports is None:
            raise SetupError("The embedded object store is not running.")
        return f"http://{weed.LOOPBACK}:{self._ports.http['s3']}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        server = self._server
        return server.process.pid if server and not server.ended.is_set() else None

    @property
    def down(self) -> str:
        """Why the server does not answer now; "" while it does. Cheap enough for each request."""
        return self._down

    def trouble(self) -> str:
        """Why the store cannot work right now; "" while nothing is wrong."""
        return self._down or self.no_space()

    @property
    def directory(self) -> Path:
        """Where its objects are."""
        return self._data

    def no_space(self) -> str:
        """Which disk is full, as the store itself answers with an internal error then."""
        return weed.no_space(self._data, _LOW_DISK)

    def start(self) -> EmbeddedStore:
        """Start the server and wait until it answers.

        Raises SetupError if the program is missing, another emulator uses the state
        directory, or the server does not come up (with the end of its log).
        """
        self.begin()
        self.wait()
        return self

    def begin(self) -> None:
        """Start the server without waiting for it; `wait` has to follow. Raises SetupError."""
        program = weed.find_program()
        self._stopping.clear()
        self._ready = Future()
        with self._undone():
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = StateLock.take(self._root / "objects.lock")
            self._write_config()
            self._supervisor = threading.Thread(
                target=self._supervise,
                args=(program, self._ready),
                name="embedded-store",
                daemon=True,
            )
            self._supervisor.start()
            self._vacuum = threading.Thread(
                target=self._vacuum_again_and_again, name="embedded-store-vacuum", daemon=True
            )
            self._vacuum.start()

    def wait(self) -> None:
        """Until it answers, once it was begun. Raises SetupError."""
        with self._undone():
            self._ready.result()

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Stop it where a step of its start fails; OSErrors become SetupErrors."""
        try:
            yield
        except OSError as error:
            self.stop()
            raise SetupError(
                f"The state directory {self._root} cannot be used: {error.strerror or error}.",
                "Give another one with --state-dir.",
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server (SIGTERM, then SIGKILL after 10 s); does nothing if it is not running."""
        self._stopping.set()
        self._down = _NOT_RUNNING
        if server := self._server:
            server.end()
        if self._supervisor and self._supervisor.ident:
            self._supervisor.join()
        if self._vacuum and self._vacuum.ident:
            self._vacuum.join()
        self._supervisor = self._vacuum = self._server = None
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

    def vacuum(self) -> None:
        """Give the space of deleted objects back to the disk, where it is worth the copying."""
        if self._ports is None:
            return
        port = self._ports.http["master"]
        connection = http.client.HTTPConnection(weed.LOOPBACK, port, timeout=_VACUUM_TIMEOUT)
        try:
            connection.request("GET", f"/vol/vacuum?garbageThreshold={_GARBAGE}")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            log.debug("no vacuum: %r", error)
        finally:
            connection.close()

    def _supervise(self, program: Path, ready: Future[None]) -> None:
        """The body of the thread that starts the server, again where it ends by itself.

        The kernel ties the server to this thread (see tether.py), so it lives as long.
        """
        try:
            self._start_server(program)
        except BaseException as error:  # noqa: BLE001 - the top of a thread; raised by `start`
            ready.set_exception(error)
            return
        ready.set_result(None)
        pause = 0.0
        while server := self._server:
            began = time.monotonic()
            self._watch(server)
            if self._stopping.is_set():
                return
            why = weed.errors(self._log_text())
            self._down = (
                f"the embedded object store ended ({server.code}) and is being started again"
                + (f": {why}" if why else "")
            )
            log.error(self._down)
            steady = time.monotonic() - began >= STEADY_SECONDS
            pause = 0.0 if steady else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            if not self._start_again(program, pause):
                return

    def _watch(self, server: _Server) -> None:
        """Until the server has ended; one that hangs is killed."""
        answered = time.monotonic()
        while not server.ended.wait(PROBE_SECONDS):
            if self._ports is not None and _responds(self._ports.http["s3"], PROBE_SECONDS):
                answered = time.monotonic()
                if not self._stopping.is_set():
                    self._down = ""
                continue
            silent = time.monotonic() - answered
            if silent >= SILENT_SECONDS and not self._stopping.is_set():
                self._down = f"the embedded object store has not answered for {silent:.0f} s"
                self.availability.note(self._down)
            if silent >= HUNG_SECONDS:
                log.error("%s and is killed", self._down)
                server.process.kill()

    def _vacuum_again_and_again(self) -> None:
        """The body of a thread of its own: it may take minutes, also where the server hangs."""
        while not self._stopping.wait(VACUUM_SECONDS):
            self.vacuum()

    def _start_again(self, program: Path, pause: float) -> bool:
        """After a pause, and until it works; False when nobody wants it any more."""
        since = time.monotonic()
        while not self._stopping.wait(pause):
            try:
                self._start_server(program, self._ports)
            except (SetupError, OSError) as error:
                if self._stopping.is_set():
                    break
                self._down = f"the embedded object store cannot be started again: {error}"
                log.error(self._down)
                pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            else:
                took = time.monotonic() - since
                self.availability.note(f"the embedded object store was away for {took:.1f} s")
                log.warning("the embedded object store answers again after %.1f s", took)
                return True
        return False

    def _start_server(self, program: Path, before: weed.Ports | None = None) -> None:
        """Start it and wait until it answers, on the S3 port that it had `before`."""
        for _ in range(_ATTEMPTS):
            self._clean()
            ports = weed.Ports.free()
            self._ports = ports.with_s3_of(before) if before else ports
            self._ports_file.write_text(self._ports.dump())
            server = self._launch(program, self._ports)
            try:
                answers = self._answers(server, self._ports)
            except BaseException:
                server.end()
                raise
            if answers:
                self._down = "" if not self._stopping.is_set() else _NOT_RUNNING
                return
            log.info("a port of the embedded object store was taken by another program")
            server.end()
            _remove_sockets(self._ports)
        raise SetupError(f"No free ports for the embedded object store after {_ATTEMPTS} tries.")

    def _launch(self, program: Path, ports: weed.Ports) -> _Server:
        command = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(program)]
        command += weed.arguments(ports, self._config)
        output = self._log.open("wb", buffering=0)
        try:
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
        except BaseException:
            output.close()
            raise
        self._server = server = _Server(process, output)
        if self._stopping.is_set():  # `stop` may have looked for it just before
            server.end()
        return server

    def _answers(self, server: _Server, ports: weed.Ports) -> bool:
        """Wait until the server answers; False if it lost one of its ports to someone else."""
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            ended = server.ended.is_set()
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


class _Server:
    """One process of SeaweedFS, and the thread that writes down what it says."""

    def __init__(self, process: subprocess.Popen[bytes], output: RawIOBase):
        self.process = process
        self.ended = threading.Event()
        """Set when it has ended and its last words are in the log."""
        threading.Thread(
            target=self._keep_log, args=(output,), name="embedded-store-log", daemon=True
        ).start()

    @property
    def code(self) -> int | None:
        """Its exit code, or the signal that ended it, negated; None while it runs."""
        return self.process.returncode

    def end(self) -> None:
        """SIGTERM, then SIGKILL after 10 s."""
        self.process.terminate()
        if not self.ended.wait(_STOP):
            self.process.kill()
            self.ended.wait()

    def _keep_log(self, output: RawIOBase) -> None:
        with output, self.process as process:
            for line in process.stdout or ():
                if not weed.is_noise(line):
                    # Also when the disk has no more room.
                    with suppress(OSError):
                        output.write(line)
        self.ended.set()


def _remove_sockets(ports: weed.Ports) -> None:
    for path in ports.sockets:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s stays: %s", path, error)


def _responds(port: int, timeout: float = 2) -> bool:
    connection = http.client.HTTPConnection(weed.LOOPBACK, port, timeout=timeout)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
