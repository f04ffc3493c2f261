"""Become another program that cannot outlive the process it was started by.

Run as a script by an interpreter: `python tether.py PARENT PROGRAM ARGUMENT…`. It imports
nothing of the emulator, so that it takes no time to start.

PR_SET_PDEATHSIG is the kernel's own tie, so it also holds when the parent is killed by
SIGKILL. Two things to know about it (prctl(2)): the "parent" is the *thread* that made this
process, so that thread has to live as long as the program should; and the tie survives
execve, except into a set-user-id program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
PARENT_GONE = 113
"""Exit status when the parent had ended before the tie was made."""


def tether(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Ends this process at once when `parent` is gone already: the kernel sends the signal
    only for a death that comes after the call.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if os.getppid() != parent:
        os._exit(PARENT_GONE)


def main(arguments: list[str]) -> None:
    """Tie, then become `arguments[1:]`; does not return."""
    parent, program = int(arguments[0]), arguments[1:]
    tether(parent)
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
