"""What every runtime does; tests/contract/test_runtime.py holds each one to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from emulator.model.errors import EmulatorError
from emulator.model.plan import Exit, JobPlan, RuntimeTraits

OutputSink = Callable[[str, bytes], None]
"""Called with a host name and the next bytes it wrote (stdout and stderr together).

Calls for one host come in order and from one thread; those of several hosts overlap.
"""


_DIAL_SECONDS = 0.25
"""In which an instance has to accept a connection (developer guide)."""


def dial(address: str, port: int) -> socket.socket:
    """A connection to an instance by its address; see Reachable. Raises OSError."""
    connection = socket.create_connection((address, port), _DIAL_SECONDS)
    connection.settimeout(None)
    return connection


class Fleet(Protocol):
    """The instances of one running job."""

    def next_exit(self, timeout: float) -> Exit | None:
        """The next instance that ended, in order of ending, each one exactly once.

        All output of that instance has been handed to the sink before. None when
        `timeout` seconds pass without an end.
        """
        ...

    def terminate(self) -> None:
        """SIGTERM to the first process of every instance that still runs; returns at once."""
        ...

    def kill(self, host: str | None = None) -> None:
        """SIGKILL to every instance that still runs, or to that one; returns at once."""
        ...

    def close(self) -> None:
        """Remove everything the fleet took (networks, containers, mounts); kills what runs."""
        ...


@dataclass(frozen=True)
class Usage:
    """What an instance uses of this machine, GPUs aside."""

    cpu_seconds: float
    """Processor time since it began."""
    memory_bytes: int
    memory_limit: int
    """Bytes that it could use at most."""


@runtime_checkable
class Measured(Protocol):
    """A fleet that can tell what its instances use; a fleet need not."""

    def usage(self) -> Mapping[str, Usage]:
        """The instances that run, by host; one that cannot be measured is left out."""
        ...


@runtime_checkable
class Reachable(Protocol):
    """A fleet whose instances can be sent requests; a fleet need not be one."""

    def dial(self, host: str, port: int) -> socket.socket:
        """A connection to a port that the instance listens on. Raises OSError.

        It takes a moment; an instance that does not accept it within 250 ms gets none (developer
        guide, how containers serve requests).
        """
        ...


@runtime_checkable
class HandsOver(Protocol):
    """A fleet whose instances write files as another user; a fleet need not be one."""

    def hand_over(self) -> None:
        """Give what the instances have written to the emulator's user; they have all ended."""
        ...


class Runtime(Protocol):
    """A place where instances run."""

    @property
    def traits(self) -> RuntimeTraits: ...

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:
        """Raise ClientError or ApiError if such a job can never run here."""
        ...

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        """Make the image available; `say` takes progress lines. Raises JobError.

        It returns without the image soon after `cancelled()` turned true.
        """
        ...

    def launch(self, plan: JobPlan, sink: OutputSink) -> Fleet:
        """Start all instances together. Raises JobError, leaving nothing behind."""
        ...


@runtime_checkable
class Awaited(Protocol):
    """A runtime that may not answer for a while; a runtime need not be one."""

    def away(self) -> str:
        """Why no instance can be started now; "" if one can. Takes a few seconds at most."""
        ...

    def stop_waiting(self) -> None:
        """The emulator ends: whoever waits for the runtime gets Unreachable."""
        ...


class Unreachable(EmulatorError):
    """The emulator ends while a runtime does not answer; its instances stay as they are."""


@runtime_checkable
class OutOfReach(Protocol):
    """A fleet whose instances cannot be reached at times; a fleet need not be one."""

    @property
    def out_of_reach(self) -> bool:
        """A signal has not reached every instance yet. It is sent again until it has."""
        ...


@runtime_checkable
class Leavable(Protocol):
    """A fleet whose instances can go on without the emulator; a fleet need not."""

    def leave(self) -> None:
        """Give back what this process holds of it, and touch no instance."""
        ...


class LeavableFleet(Fleet, Leavable, Protocol):
    """A fleet that was left, and taken over."""


@runtime_checkable
class Lasting(Protocol):
    """A runtime whose instances outlive the emulator; a runtime need not be one."""

    def adopt(
        self, arn: str, sink: OutputSink, received: Mapping[str, int] | None = None
    ) -> LeavableFleet | None:
        """The fleet that an earlier emulator started for a job; None if it is not complete.

        `received` tells by host how many bytes of output are known: the sink gets what
        follows. Raises JobError where the instances are lost, OSError where this process lacks
        something for now, such as descriptors or threads, and Unreachable.
        """
        ...

    def remove(self, arn: str) -> None:
        """End and remove what an earlier emulator left of a job; its files can be read then.

        What cannot be removed now goes with a later clean(). Raises Unreachable.
        """
        ...

    def clean(self, keep: Collection[str] = ()) -> None:
        """Remove what earlier emulators left of all jobs but those of these ARNs."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A runtime that keeps something of the instances of a warm pool; a runtime need not."""

    def release(self, pool: str) -> None:
        """Remove what is kept of that pool (JobPlan.pool), in which no job runs any more.

        Nothing happens if nothing is. What cannot be removed now goes with a later clean().
        """
        ...


@runtime_checkable
class LastingRuntime(Runtime, Lasting, Protocol):
    """A runtime whose instances outlive the emulator."""
