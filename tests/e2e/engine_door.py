"""A way to the machine's Docker engine that a test can cut: the engine itself goes on."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path


class EngineDoor:
    """A unix socket that leads to the engine while it is open."""

    def __init__(self, path: Path):
        self.url = f"unix://{path}"
        self._path = path
        self._engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._listening: socket.socket | None = None
        self._streams: set[socket.socket] = set()

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        listening = self._listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self._path))
        listening.listen(64)
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        """Nobody comes in any more, and whoever is inside is cut off."""
        listening, self._listening = self._listening, None
        if listening:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            self._path.unlink(missing_ok=True)
        for stream in tuple(self._streams):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._engine.removeprefix("unix://"))
                self._streams |= {client, engine}
                for one, other in ((client, engine), (engine, client)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)
        self._streams.discard(one)
