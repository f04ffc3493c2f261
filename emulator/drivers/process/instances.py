"""What the supervising process of a job is told to start: a sandbox, or a plain process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.drivers.process.seccomp import seccomp_filter
from emulator.drivers.process.supervisor import SELF

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_BARE_CHILD = Path(__file__).with_name("bare_child.py")

# PID 1 becomes the command itself; the shell gives 127 and 126 where it cannot.
_EXEC = ("/bin/sh", "-c", 'exec "$@"', "sh")

_LIBRARIES = ("LD_LIBRARY_PATH",)

InstanceOrder = dict[str, Any]
"""An entry of `instances` in the order of supervisor.py, but for host and output."""


def sandboxed(
    bwrap: Path,
    arguments: Sequence[str],
    command: Sequence[str],
    entry: Sequence[str] = (),
    seccomp: bool = False,
) -> InstanceOrder:
    """A sandbox; `entry` comes before bubblewrap and becomes it, `seccomp` filters system calls.

    Raises ValueError for an argument that no program can be given.
    """
    if any("\0" in word for word in arguments):
        # It would end there, and what follows be an option of its own.
        raise ValueError("an argument of the sandbox holds a NUL character")
    return {
        "words": [*entry, str(bwrap), "--options--", "--", *_EXEC, *command],
        "arguments": list(arguments),
        "filter": seccomp_filter().hex() if seccomp else "",
        "environment": {},
    }


def bare(command: Sequence[str], environment: Mapping[str, str]) -> InstanceOrder:
    """A process without a sandbox; see bare_child.py."""
    # -I: the launcher must not heed the job's PYTHONPATH and the like.
    launcher = [sys.executable, "-I", "-S", str(_BARE_CHILD), SELF, *command]
    return {
        "words": launcher,
        "arguments": None,
        "filter": "",
        "environment": dict(environment),
    }


@dataclass(frozen=True)
class Started:
    """The process that holds the instances of a job, as the one that has started it has it."""

    process: subprocess.Popen[bytes]
    let_go: Callable[[], None]
    """Give back what this process has of it: unless it outlives this one, it ends then."""

    def end(self) -> None:
        """Kill it; its instances die with it."""
        self.process.kill()
        self.process.wait()
        self.let_go()


def start_supervisor(order: Mapping[str, Any], outlives: bool) -> Started:
    """Start the process that holds the instances, and wait until all have started.

    Unless it `outlives` this one, it ends with it. Raises OSError if an instance cannot be
    started; then none runs.
    """
    with ExitStack() as held, ExitStack() as ours:
        ready, ready_end = os.pipe()
        held.callback(os.close, ready)
        closing = held.enter_context(ExitStack())
        closing.callback(os.close, ready_end)
        lifeline = None
        if not outlives:
            lifeline, lifeline_end = os.pipe()
            closing.callback(os.close, lifeline)
            ours.callback(os.close, lifeline_end)
        text = json.dumps({**order, "ready": ready_end, "lifeline": lifeline})
        told = held.enter_context(os.fdopen(os.memfd_create("order", os.MFD_CLOEXEC), "w+b"))
        told.write(text.encode())
        told.seek(0)
        given = (*order["descriptors"], ready_end, *(() if lifeline is None else (lifeline,)))
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR)],
            stdin=told,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=given,
            # Nothing of the user's, but where an interpreter may have its own library.
            env={name: os.environ[name] for name in _LIBRARIES if name in os.environ},
            cwd="/",
            start_new_session=True,
        )
        closing.close()
        said = b""
        while chunk := os.read(ready, 4096):
            said += chunk
        if said != b"ok":
            process.wait()
            raise OSError(said.decode(errors="replace") or "its supervising process has ended")
        ours.callback(process.poll)  # its end is seen by its pidfd; this leaves no zombie
        return Started(process, ours.pop_all().close)
