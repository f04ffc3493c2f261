"""The process in front of the emulator: the event loop that all bytes of S3 pass through.

Its own event loop and interpreter keep API calls from waiting behind uploads. It imports little, to
start soon and to stay small.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from emulator.aws.endpoint import endpoint_protocol, take_connection
from emulator.aws.front.channel import Channel, Message, connection_of, read, send_connection
from emulator.aws.s3.control import Disturbance
from emulator.aws.s3.proxy import S3Proxy
from emulator.data.objectstore.weed import key_problem, no_space

LAST_ANSWERS_SECONDS = 5
_LONGEST_BUCKET = 255
"""Characters: more than any bucket has, and what a message takes."""
FIRST_ORIGIN = 0
"""Of the connections that are accepted here."""


@dataclass(frozen=True)
class StoreAccess:
    """The object store, as the process in front has to know it."""

    endpoint: str
    access_key: str
    secret_key: str
    patience: float
    """Seconds for which a store that refuses connections is tried again."""
    directory: str
    """Of the embedded store's objects; "" where the store is another one."""


def main() -> None:
    """Wait for the first message of the emulator, then serve until it says so or is gone."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[-1]))
    # Each client takes two: its connection, and one to the store. No other program is started here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        first, files = read(end)
    except EOFError:
        return
    Process(end, first, [socket.socket(fileno=file) for file in files]).run()


class Process:
    """The listening sockets, the S3 proxy, and the channel to the emulator."""

    def __init__(self, end: socket.socket, first: Message, listening: list[socket.socket]):
        self._end = end
        self._listening = listening
        self._channel: Channel | None = None
        self.seeded = bool(first["seeded"])
        self._questions: dict[int, asyncio.Future[Message]] = {}
        self._asked = 0
        store = StoreAccess(**{each.name: first[each.name] for each in fields(StoreAccess)})
        self._s3 = S3Proxy(
            store.endpoint,
            store.access_key,
            store.secret_key,
            self,
            store.patience,
            key_problem if store.directory else None,
            partial(no_space, Path(store.directory)) if store.directory else None,
        )
        self._config = uvicorn.Config(
            self._lifespan,
            http=endpoint_protocol(self._s3, partial(self._hand_over, FIRST_ORIGIN)),
            ws="none",
            interface="asgi3",
            lifespan="on",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
        )
        self._server = _Server(self._config)
        logging.basicConfig(level=logging.WARNING, handlers=[_Forwarding(self._log)])
        logging.getLogger("emulator").setLevel(first["level"])

    def run(self) -> None:
        """Serve until the end."""
        self._server.run(sockets=self._listening)

    # s3.control.Control

    async def disturbance(self, bucket: str) -> Disturbance:
        answer = await self._ask({"disturbance": bucket[:_LONGEST_BUCKET]})
        return Disturbance(answer.get("seconds", 0), answer.get("slow_down", False))

    async def store_problem(self) -> str:
        return str((await self._ask({"store_problem": True})).get("problem", ""))

    async def _ask(self, question: Message) -> Message:
        if self._channel is None:
            return {}
        self._asked += 1
        number = self._asked
        self._questions[number] = asyncio.get_running_loop().create_future()
        self._channel.send({**question, "question": number})
        try:
            return await self._questions[number]
        finally:
            del self._questions[number]

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI application that never gets a request: the protocol hands all of them on."""
        if scope["type"] != "lifespan":
            return
        await receive()
        self._channel = Channel(self._end, self._message, self._emulator_gone)
        self._channel.send({"serving": True})
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._s3.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _message(self, message: Message, files: list[int]) -> None:
        if "connection" in message:
            if came := connection_of(files):
                asyncio.get_running_loop().create_task(self._take(message["connection"], *came))
        elif "seeded" in message:
            self.seeded = message["seeded"]
            self._tell({"told": message["telling"]})
        elif "beat" in message:
            self._tell(message)
        elif "answer" in message:
            question = self._questions.get(message["answer"])
            if question is not None and not question.done():
                question.set_result(message)
        elif "stop" in message:
            self._server.should_exit = True

    async def _take(self, origin: int, connection: socket.socket, received: bytes) -> None:
        hand_over = partial(self._hand_over, origin)
        await take_connection(connection, received, self._s3, hand_over, self._server, {})

    def _hand_over(self, origin: int, connection: int, received: bytes) -> None:
        if self._channel is not None:
            send_connection(self._channel, origin, connection, received)

    def _emulator_gone(self) -> None:
        # At once: the next emulator may want the port, and the store ends with the last one.
        os._exit(0)

    def _tell(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _log(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)
        else:
            sys.stderr.write(f"{message['log']}\n")


class _Server(uvicorn.Server):
    """Ends when the emulator says so, not at a signal.

    A service manager sends SIGTERM to both processes; a front that ended first would look as if
    it had to be started again.
    """

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


class _Forwarding(logging.Handler):
    """Sends what is logged to the emulator, which knows where it belongs."""

    def __init__(self, send: Any):
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._send({"log": text[:8000], "level": record.levelno, "name": record.name})
