"""The emulator's side of the process in front: starts it, and takes what is not for S3."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import uvicorn

from emulator.aws.endpoint import endpoint_protocol, take_connection
from emulator.aws.front.channel import Channel, Message, connection_of, pair, send_connection
from emulator.aws.front.process import FIRST_ORIGIN, LAST_ANSWERS_SECONDS, StoreAccess
from emulator.aws.s3.local_control import LocalControl

log = logging.getLogger(__name__)

_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from emulator.aws.front.process import main; main()"
)
_STEADY_SECONDS = 10.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
_TELL_SECONDS = 5.0
_END_SECONDS = LAST_ANSWERS_SECONDS + 5.0
BEAT_SECONDS = 5.0
"""Between two questions whether the process still answers."""
MISSED_BEATS = 10
"""Without an answer to so many in a row it is killed and started again."""


class Front:
    """One process in front, started again where it ends by itself or does not answer.

    `start`, `stop` and `end` belong to one owner; `attach` is called in the endpoint's event loop,
    where everything else happens.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._end: socket.socket | None = None
        self._channel: Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._listening: Sequence[socket.socket] = ()
        self._store = StoreAccess("", "", "", 0, "")
        self._control = LocalControl()
        self._changing = threading.Lock()
        """Held while a process is started again, and while `stop` decides that none is."""
        self._ending = threading.Event()
        self._serving = threading.Event()
        self._pause = 0.0
        self._missed_beats = 0
        self._tellings = itertools.count()
        self._untold: dict[int, threading.Event] = {}
        """Who waits until the process knows whether faults are seeded."""
        self._origins = itertools.count(FIRST_ORIGIN)
        self._servers: WeakValueDictionary[int, uvicorn.Server] = WeakValueDictionary()

    @property
    def pid(self) -> int | None:
        """The id of the process; None before it is started."""
        return self._child.pid if self._child else None

    def server(self, application: Any, **options: Any) -> uvicorn.Server:
        """A server of this process whose S3 requests are for the process in front.

        The first one also takes all that is not for S3 of the connections accepted there.
        """
        origin = next(self._origins)
        config = uvicorn.Config(
            application,
            http=endpoint_protocol(None, partial(self._hand_over, origin)),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
            **options,
        )
        server = uvicorn.Server(config)
        self._servers[origin] = server
        return server

    def start(self) -> None:
        """Start the process; it serves once `attach` has told it what. Raises OSError."""
        mine, its = pair()
        with its:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path), str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is for the emulator, which then ends this one.
                start_new_session=True,
            )
        if self._end is not None:
            self._end.close()
        self._end = mine
        self._started_at = time.monotonic()

    def attach(
        self,
        listening: Sequence[socket.socket],
        store: StoreAccess,
        control: LocalControl,
    ) -> None:
        """Let it accept connections; `control` answers its questions."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._listening = listening
        self._store = store
        self._control = control
        control.faults.watch(self._tell_seeded)
        self._open()

    def serves(self, seconds: float) -> bool:
        """Wait until the process accepts connections; False if it took longer than `seconds`.

        Not to be called in the endpoint's event loop.
        """
        return self._serving.wait(seconds)

    def stop(self) -> None:
        """Accept no more connections; answers go on for a few seconds. `end` waits for them."""
        with self._changing:
            if self._ending.is_set():
                return
            self._ending.set()
            for listening in self._listening:
                listening.close()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._send, {"stop": True})
        elif self._end is not None:
            self._end.close()

    def end(self) -> None:
        """Stop it and wait for its end; does nothing where it does not run."""
        self.stop()
        if self._child is not None:
            try:
                self._child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def _open(self) -> None:
        """Tell a process that was started what to serve. Raises OSError."""
        if self._end is None:
            return
        copies = [listening.dup() for listening in self._listening]
        self._channel = Channel(self._end, self._message, self._lost)
        first = {
            **asdict(self._store),
            "seeded": self._control.seeded,
            "level": logging.getLogger("emulator").getEffectiveLevel(),
        }
        self._channel.send(first, [copy.detach() for copy in copies])
        self._missed_beats = 0
        self._beat(self._channel)

    def _beat(self, channel: Channel) -> None:
        """Ask the process at the other end whether it answers, from time to time."""
        if channel is not self._channel or self._child is None or self._loop is None:
            return
        if self._missed_beats >= MISSED_BEATS:
            log.error("the process that serves S3 does not answer and is killed")
            self._child.kill()  # the channel's end tells
            return
        # Counted, not timed: this process may have been stopped itself.
        self._missed_beats += 1
        channel.send({"beat": True})
        self._loop.call_later(BEAT_SECONDS, self._beat, channel)

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _tell_seeded(self) -> None:
        """Returns when the process knows, so that what was seeded meets every later request."""
        if self._loop is None:
            return
        told = threading.Event()
        if threading.get_ident() == self._loop_thread:
            self._tell(told)
            return
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._tell, told)
            told.wait(_TELL_SECONDS)

    def _tell(self, told: threading.Event) -> None:
        if self._channel is None:  # the next process knows it from the first
            told.set()
            return
        number = next(self._tellings)
        self._untold[number] = told
        self._channel.send({"seeded": self._control.seeded, "telling": number})

    def _message(self, message: Message, files: list[int]) -> None:
        if "connection" in message:
            if came := connection_of(files):
                asyncio.get_running_loop().create_task(self._take(message["connection"], *came))
        elif "serving" in message:
            self._serving.set()
        elif "beat" in message:
            self._missed_beats = 0
        elif "told" in message:
            if told := self._untold.pop(message["told"], None):
                told.set()
        elif "disturbance" in message:
            found = self._control.disturbance_now(message["disturbance"])
            answer = {"seconds": found.seconds, "slow_down": found.slow_down}
            self._send({"answer": message["question"], **answer})
        elif "store_problem" in message:
            problem = self._control.store_problem_now()
            self._send({"answer": message["question"], "problem": problem})
        elif "log" in message:
            logging.getLogger(message["name"]).log(message["level"], "%s", message["log"])

    async def _take(self, origin: int, connection: socket.socket, received: bytes) -> None:
        server = self._servers.get(origin)
        if server is None:  # the job has ended
            connection.close()
            return
        hand_over = partial(self._hand_over, origin)
        await take_connection(connection, received, None, hand_over, server, server.lifespan.state)

    def _hand_over(self, origin: int, connection: int, received: bytes) -> None:
        if self._channel is None:
            socket.socket(fileno=connection).close()
        else:
            send_connection(self._channel, origin, connection, received)

    def _lost(self) -> None:
        """The process has ended, or is about to."""
        self._channel = None
        for told in self._untold.values():
            told.set()
        self._untold.clear()
        child = self._child
        if self._ending.is_set() or child is None or self._loop is None:
            return
        child.kill()
        code = child.wait()
        steady = time.monotonic() - self._started_at >= _STEADY_SECONDS
        self._pause = 0.0 if steady else min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        log.error("the process that serves S3 ended (%s) and is being started again", code)
        self._loop.call_later(self._pause, self._start_again)

    def _start_again(self) -> None:
        with self._changing:
            if self._ending.is_set():
                return
            try:
                self.start()
                self._open()
            except OSError as error:
                log.error("the process that serves S3 cannot be started: %s", error)
                self._give_up()
                asyncio.get_running_loop().call_later(_LONGEST_PAUSE, self._start_again)

    def _give_up(self) -> None:
        """End a process that was not told what to serve."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
