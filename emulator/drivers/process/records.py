"""How the supervising processes of jobs are found again: one small file each.

A record holds the process ids and what has to be removed in the end. Its name is made of the
job's ARN.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.drivers.process.sandbox import Scratch
from emulator.drivers.process.supervisor import birth
from emulator.drivers.scratch_files import remove_tree

Identity = tuple[int, int]
"""A process's id and when it started: together they name it for good."""


@dataclass(frozen=True)
class Record:
    """What is known of the instances of a job."""

    arn: str
    supervisor: Identity
    instances: Mapping[str, Mapping[str, Any]]
    """By host: `pid`, `first` (identities) and `sandboxed`; empty until all have started."""
    scratches: Mapping[str, str]
    """The directory that the runtime has for each host."""
    shared: tuple[str, ...]
    """Directories of shared memory."""
    network: Mapping[str, Any] | None
    """How the job's own network is entered: see process_network.py."""


class Records:
    """The records below one directory."""

    def __init__(self, directory: Path):
        self._directory = directory

    def place(self, arn: str) -> Path:
        """The file for a job; its directory exists then."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f"{hashlib.sha256(arn.encode()).hexdigest()[:24]}.json"

    def exits(self, arn: str) -> Path:
        """The file for the ends of a job's instances."""
        return self.place(arn).with_suffix(".exits")

    def find(self, arn: str) -> Record | None:
        """The record of a job; None if there is none. Raises OSError if it cannot be read now."""
        return _read(self.place(arn))

    def all(self) -> Iterator[Record]:
        """Every record that can be read."""
        for file in sorted(self._directory.glob("*.json")):
            with suppress(OSError):
                if record := _read(file):
                    yield record

    def forget(self, arn: str) -> None:
        """Remove the files; no process of the job runs any more."""
        self.place(arn).unlink(missing_ok=True)
        self.exits(arn).unlink(missing_ok=True)


def _read(file: Path) -> Record | None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        supervisor = stored["supervisor"]
        return Record(
            arn=stored["arn"],
            supervisor=(supervisor[0], supervisor[1]),
            instances=stored["instances"],
            scratches=stored["scratches"],
            shared=tuple(stored["shared"]),
            network=stored["network"],
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):
        return None


def open_process(identity: Identity | list[int] | None) -> int | None:
    """A descriptor of a process (pidfd); None if it has ended."""
    if identity is None:
        return None
    pid, born = identity
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if birth(pid) == born:
            return descriptor
    except OSError:
        pass  # it ended just now
    os.close(descriptor)
    return None


def send(descriptor: int | None, number: int) -> None:
    """Send a signal, unless the process has ended."""
    if descriptor is not None:
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return


def wait_for_end(descriptor: int, seconds: float | None = None) -> bool:
    """Wait for the end of a process; False when it took longer."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def end_all(record: Record) -> None:
    """Kill the instances of a job: they die with their supervising process. Waits for that."""
    opened = [(open_process(record.supervisor), signal.SIGKILL)]
    for one in record.instances.values():
        # bare_child.py must live to end what its command has started.
        number = signal.SIGKILL if one["sandboxed"] else signal.SIGUSR2
        opened += [(open_process(one["pid"]), number), (open_process(one["first"]), number)]
    try:
        for descriptor, number in opened:
            send(descriptor, number)
        for descriptor, _ in opened:
            if descriptor is not None:
                wait_for_end(descriptor)
    finally:
        for descriptor, _ in opened:
            if descriptor is not None:
                os.close(descriptor)


def remove_remains(record: Record) -> None:
    """Remove what the instances had for themselves; the mounts are the job's."""
    for root in record.scratches.values():
        scratch = Scratch(Path(root))
        for path in (*scratch.directories, scratch.upper.parent):
            if path.exists():
                remove_tree(path)
        scratch.hosts.unlink(missing_ok=True)
        scratch.output.unlink(missing_ok=True)
        scratch.environment_file.unlink(missing_ok=True)
    for directory in record.shared:
        if Path(directory).exists():
            remove_tree(Path(directory))
