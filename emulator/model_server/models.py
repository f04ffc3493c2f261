"""The worker processes of a model: started, given requests, replaced, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
START_ATTEMPTS = 3
"""How often in a row a worker that ended is started again before its model is given up."""
END_SECONDS = 5.0
"""How long a worker without a request may take to end."""

Message = tuple[Any, ...]


class CannotLoadError(Exception):
    """A model cannot be loaded; the text is its error and traceback, or how its process ended."""

    def __init__(self, text: str, *, out_of_memory: bool):
        super().__init__(text)
        self.out_of_memory = out_of_memory


class WorkerEndedError(Exception):
    """The worker ended, or was killed for taking too long, in the middle of a request."""


class NotTakenError(Exception):
    """The worker ended before it had read the request: another one may have it."""


class ModelClosedError(Exception):
    """The model has been unloaded, or none of its workers can be started."""


def log(text: str) -> None:
    """One line on standard error."""
    print(f"serve: {text}", file=sys.stderr, flush=True)


class Worker:
    """One process that holds the model, and this side's end of the connection to it."""

    def __init__(self, directory: Path, gpus: Sequence[str]):
        mine, theirs = socket.socketpair()
        env = dict(os.environ)
        if not env.get("SAGEMAKER_PROGRAM", "x"):
            del env["SAGEMAKER_PROGRAM"]  # SDK v3 sets it to "", which the toolkit cannot read
        env["PYTHONPATH"] = os.pathsep.join(
            path for path in (str(directory / "code"), env.get("PYTHONPATH")) if path
        )
        if gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-u", str(WORKER), str(theirs.fileno()), str(directory)],
                env=env,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A signal to the server's process group must not end running requests.
                start_new_session=True,
            )
        self._socket = mine
        self._connection = Connection(os.dup(mine.fileno()))

    def wait_until_loaded(self) -> None:
        """Raise CannotLoadError if the model cannot be loaded."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            killed = code == -signal.SIGKILL  # most often by the kernel, for its memory
            raise CannotLoadError(
                f"The process that loads the model {ended(code)}.", out_of_memory=killed
            ) from None
        if message[0] == "failed":
            self.process.wait()
            raise CannotLoadError(message[1], out_of_memory=message[2])

    def send(self, message: Message) -> None:
        """Give the worker a message; raises NotTakenError."""
        try:
            self._connection.send(message)
        except OSError:
            raise NotTakenError from None

    def receive(self, timeout: float | None) -> Message:
        """The worker's next message; kills a worker that takes longer than `timeout` seconds.

        Raises NotTakenError and WorkerEndedError.
        """
        try:
            if timeout is not None and not self._connection.poll(timeout):
                self.process.kill()
                self.process.wait()
                raise WorkerEndedError(
                    f"The model did not answer within {timeout:.0f} s "
                    "(SAGEMAKER_MODEL_SERVER_TIMEOUT); its process was killed."
                )
            message: Message = self._connection.recv()
        except ConnectionResetError:
            # Linux says so, instead of the end of the stream, if the process left data unread.
            raise NotTakenError from None
        except (EOFError, OSError):
            code = self.process.wait()
            raise WorkerEndedError(
                f"The process of the model {ended(code)} during the request."
            ) from None
        return message

    def hang_up(self) -> None:
        """Make the worker end, and whoever waits for a message from it go on."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Stop the worker, by force if it does not end itself."""
        self.hang_up()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Model:
    """A model and its workers. Requests wait for a worker that is free, in their order."""

    def __init__(
        self,
        name: str,
        directory: Path,
        gpu_shares: Sequence[Sequence[str]],
        timeout: float | None,
        on_give_up: Callable[[Model], None],
    ):
        """`gpu_shares` has one entry a worker. `on_give_up` is called when no worker is left."""
        self.name, self.directory = name, directory
        self._gpu_shares = gpu_shares
        self._timeout = timeout
        self._on_give_up = on_give_up
        self._changed = threading.Condition()
        self._live: set[Worker] = set()
        self._idle: deque[Worker] = deque()
        self._waiting: deque[SimpleQueue[Worker | None]] = deque()
        self._closed = False
        self._starting: list[Worker] = []
        self.loaded = False
        """Whether `load` has come to a good end."""

    @property
    def healthy(self) -> bool:
        """Whether at least one worker has loaded the model and runs."""
        return bool(self._live) and not self._closed

    def load(self) -> None:
        """Start all workers and wait until they have loaded it; raises CannotLoadError."""
        self._starting = [Worker(self.directory, gpus) for gpus in self._gpu_shares]
        try:
            for worker in self._starting:
                worker.wait_until_loaded()
        except BaseException:
            self.abandon()
            raise
        for index, worker in enumerate(self._starting):
            self._put(worker)
            threading.Thread(target=self._keep, args=(index, worker), daemon=True).start()
        self.loaded = True

    def abandon(self) -> None:
        """Make `load`, in another thread, fail at once."""
        for worker in self._starting:
            worker.process.kill()
            worker.end()

    def invoke(self, headers: dict[str, str], body: bytes) -> Generator[Message, None, None]:
        """The messages that answer a request, as in `worker.py`.

        Close the iterator to stop a stream. Raises ModelClosedError and WorkerEndedError.
        """
        worker, message = self._ask(("invoke", headers, body))
        try:
            while message[0] not in ("answer", "end"):
                yield message
                message = worker.receive(self._timeout)
        except GeneratorExit:
            self._stop_stream(worker)
            raise
        finally:
            self._give_back(worker)
        # The worker has its next request by now, however slowly the client reads this.
        yield message

    def _ask(self, request: Message) -> tuple[Worker, Message]:
        """A worker that has the request, and the first message of its answer."""
        while True:
            worker = self._take()
            try:
                worker.send(request)
                return worker, worker.receive(self._timeout)
            except NotTakenError:
                self._give_back(worker)
            except WorkerEndedError:
                self._give_back(worker)
                raise

    def _stop_stream(self, worker: Worker) -> None:
        with suppress(NotTakenError, WorkerEndedError):
            worker.send(("stop",))
            while worker.receive(self._timeout)[0] != "end":
                pass

    def close(self) -> None:
        """Finish the running requests and end the workers."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.popleft().put(None)
            self._changed.wait_for(lambda: len(self._idle) >= len(self._live))
            workers = list(self._live)
        for worker in workers:
            worker.hang_up()
        for worker in workers:
            worker.end()

    def _take(self) -> Worker:
        """A free worker; those who ask while none is free get one in their order."""
        with self._changed:
            if self._closed:
                raise ModelClosedError(self.name)
            if self._idle:
                return self._idle.popleft()
            turn: SimpleQueue[Worker | None] = SimpleQueue()
            self._waiting.append(turn)
        worker = turn.get()
        if worker is None:
            raise ModelClosedError(self.name)
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._changed:
            if worker in self._live:
                self._offer(worker)
            self._changed.notify_all()

    def _put(self, worker: Worker) -> None:
        with self._changed:
            self._live.add(worker)
            self._offer(worker)

    def _offer(self, worker: Worker) -> None:
        # Handed over, not put down: a request that has just come must not be faster.
        if self._waiting:
            self._waiting.popleft().put(worker)
        else:
            self._idle.append(worker)

    def _drop(self, worker: Worker) -> None:
        with self._changed:
            self._live.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            self._changed.notify_all()

    def _keep(self, index: int, worker: Worker | None) -> None:
        """Replace one of the workers each time it ends (a thread)."""
        while worker is not None:
            code = worker.process.wait()
            self._drop(worker)
            worker.hang_up()
            if self._closed:
                return
            log(f"a process of the model {ended(code)}; starting another")
            worker = self._replacement(index)
        if not self._live and not self._closed:
            log(f"no process of the model could be started in {START_ATTEMPTS} attempts")
            self._on_give_up(self)

    def _replacement(self, index: int) -> Worker | None:
        for _ in range(START_ATTEMPTS):
            worker = Worker(self.directory, self._gpu_shares[index])
            try:
                worker.wait_until_loaded()
            except CannotLoadError as error:
                log(str(error))
                worker.end()
                continue
            if self._closed:
                worker.end()
                return None
            self._put(worker)
            return worker
        return None


def ended(code: int) -> str:
    """How a process ended, as the end of a sentence."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
