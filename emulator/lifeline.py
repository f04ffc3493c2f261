"""A file whose lock says that somebody still needs the emulator of a test run.

Every process of the test run holds a shared lock on it. The kernel takes the lock from a process
that ends, however it ends, so the emulator, which waits for the exclusive lock, ends after the
last user, also when that one was killed.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path


class Lifeline:
    """A shared lock on the file, held until `let_go`."""

    def __init__(self, file: Path):
        """Waits while an emulator that nobody needs any more is ending."""
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def let_go(self) -> None:
        """Say that this process needs the emulator no more."""
        os.close(self._descriptor)


def when_unused(file: Path, end: Callable[[], object]) -> None:
    """Call `end` in a thread once no process holds the lifeline.

    The lock that tells so is kept until this process ends: whoever comes later waits for that.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def wait() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
