"""One emulator a state directory: a lock that the kernel gives back whatever happens."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from emulator.model.errors import SetupError

LOCK_FILE = "emulator.lock"
"""Name of the file in a state directory that its emulator locks while it runs."""
_WAIT = 5.0
"""Seconds a new emulator waits: a killed one's object store may need a moment to end."""


class StateLock:
    """Held through an open file, and through every child process that inherits it."""

    def __init__(self, path: Path, descriptor: int):
        self.path = path
        self.descriptor = descriptor

    def release(self) -> None:
        """Give the lock back (children that inherited it still hold it until they end)."""
        os.close(self.descriptor)

    @classmethod
    def take(
        cls,
        path: Path,
        wait: float = _WAIT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> StateLock:
        """Lock `path`; raises SetupError, naming the owner, if it is taken for `wait` seconds."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = clock() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock() >= deadline:
                    owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                    os.close(descriptor)
                    raise SetupError(
                        f"Another emulator (process {owner or 'unknown'}) uses {path.parent}.",
                        "Stop it, or give this one a --state-dir of its own.",
                    ) from None
                sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(path, descriptor)
