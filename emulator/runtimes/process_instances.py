"""One running instance: a sandbox, or a plain process where there can be none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from emulator.runtimes.seccomp import open_filter

_BARE_CHILD = Path(__file__).with_name("bare_child.py")

# PID 1 becomes the command itself; the shell gives 127 and 126 where it cannot.
_EXEC = ("/bin/sh", "-c", 'exec "$@"', "sh")


class Instance(Protocol):
    """What the fleet does with an instance. Made by the thread that outlives it."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The child of the emulator; its end is the instance's end."""
        ...

    def started(self) -> None:
        """Wait until signals can be sent."""
        ...

    def terminate(self) -> None:
        """SIGTERM to the first process."""
        ...

    def kill(self) -> None: ...

    def lost(self) -> str:
        """Once it ended: why there was no command to end, or ""."""
        ...

    def release(self) -> None:
        """Let go of what it held; nothing may be called after that."""
        ...


class Sandboxed:
    """A sandbox and the bubblewrap that waits for it."""

    def __init__(
        self,
        bwrap: Path,
        arguments: Sequence[str],
        command: Sequence[str],
        entry: Sequence[str] = (),
        seccomp: bool = False,
    ):
        """`entry` comes before bubblewrap and becomes it; `seccomp` has system calls filtered.

        Raises OSError when bubblewrap itself cannot be started, and ValueError for an
        argument that no program can be given.
        """
        if any("\0" in word for word in arguments):
            # It would end there, and what follows be an option of its own.
            raise ValueError("an argument of the sandbox holds a NUL character")
        with ExitStack() as held, ExitStack() as ours:
            # Through a file in memory: no limit on their length, and no credentials in `ps`.
            told = os.memfd_create("bwrap-arguments", os.MFD_CLOEXEC)
            held.callback(os.close, told)
            status, status_end = os.pipe()
            held.callback(os.close, status_end)
            self._status = ours.enter_context(os.fdopen(status, "rb"))
            os.write(told, b"".join(os.fsencode(word) + b"\0" for word in arguments))
            os.lseek(told, 0, os.SEEK_SET)
            options = ["--args", str(told), "--json-status-fd", str(status_end)]
            descriptors = [told, status_end]
            if seccomp and (refused := held.enter_context(open_filter())) is not None:
                options += ["--seccomp", str(refused)]
                descriptors.append(refused)
            words = [*entry, str(bwrap), *options, "--", *_EXEC, *command]
            self.process = _spawn(words, {}, tuple(descriptors))
            ours.pop_all()
        self._first: int | None = None

    def started(self) -> None:
        try:
            self._first = os.pidfd_open(json.loads(self._status.readline())["child-pid"])
        except (ValueError, ProcessLookupError):
            return  # it has ended already

    def terminate(self) -> None:
        # Not to bubblewrap: that would die of it, and take the script along unasked.
        if self._first is not None:
            _signal(self._first, signal.SIGTERM)

    def kill(self) -> None:
        if self._first is not None:
            _signal(self._first, signal.SIGKILL)
        else:
            self.process.kill()

    def lost(self) -> str:
        # bubblewrap tells of an exit code only when the command had begun.
        return "" if b'"exit-code"' in self._status.read() else "its sandbox could not be made"

    def release(self) -> None:
        self._status.close()
        if self._first is not None:
            os.close(self._first)
            self._first = None


class Bare:
    """A process without a sandbox; see bare_child.py."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        # -I: the launcher must not heed the job's PYTHONPATH and the like.
        launcher = [sys.executable, "-I", "-S", str(_BARE_CHILD), *command]
        self.process = _spawn(launcher, environment, ())

    def started(self) -> None:
        return

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGUSR2)

    def lost(self) -> str:
        return ""

    def release(self) -> None:
        return


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], pass_fds: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=pass_fds,
        # Ctrl-C at the emulator's terminal is for the emulator.
        start_new_session=True,
        bufsize=0,
    )


def _signal(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return  # it ended before
