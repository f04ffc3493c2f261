"""The first process of an instance where no sandbox can be made; run as a script.

    python bare_child.py PARENT COMMAND…

It does what a sandbox's process namespace does elsewhere: when the command ends, or the process
PARENT does, or SIGUSR2 says so, everything the command has started is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _children() -> list[int]:
    """Processes whose parent this one is, orphans of its descendants among them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything; what follows it does not.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended just now
        if parent == os.getpid():
            found.append(int(stat.parent.name))
    return found


def _kill_children(*_: object) -> None:
    for pid in _children():
        os.kill(pid, signal.SIGKILL)


def _run(parent: int, command: list[str]) -> int:
    """Start the command, end all that is left after it, give its exit code."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGUSR2, _kill_children)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2, 0, 0, 0)
    if os.getppid() != parent:  # it ended before this process could be told
        return 128 + signal.SIGKILL
    try:
        first = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(first.pid, number)

    signal.signal(signal.SIGTERM, pass_on)
    return _reap(first.pid)


def _reap(first: int) -> int:
    code = None
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return code or 0
        if pid == first:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
        if code is not None:
            _kill_children()


if __name__ == "__main__":
    sys.exit(_run(int(sys.argv[1]), sys.argv[2:]))
