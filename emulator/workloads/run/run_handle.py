"""What an emulator writes down of a job whose instances may outlive it, for the one after it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from emulator.drivers.base import LastingRuntime, Runtime
from emulator.model.errors import InternalServerError
from emulator.model.job import JobSpec
from emulator.placement.leases import Lease
from emulator.workloads.run.outcome import INTERNAL_ERROR

_NOTE = "attempt.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunHandle:
    """An attempt whose instances run, as far as its job's record does not tell."""

    runtime: str
    """The name of the runtime that has the instances."""
    began: float
    """When they were started, in epoch seconds."""
    trained: float
    """Seconds that earlier attempts have trained."""
    retries: int
    """How often the job was tried again before."""
    cache: str | None
    """The directory that becomes a warm pool's."""

    def save(self, directory: Path) -> None:
        """Write it into the job's directory. Raises OSError."""
        (directory / _NOTE).write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True)
class Resumed:
    """A job that is taken over."""

    handle: RunHandle
    lease: Lease
    """What its instances hold."""


def read_handle(directory: Path) -> RunHandle | None:
    """None if the job that has this directory has no instances that outlive an emulator."""
    try:
        return RunHandle(**json.loads((directory / _NOTE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        _log.warning("%s cannot be read: %s", directory / _NOTE, error)
        return None


def runtime_of(handle: RunHandle, runtimes: Iterable[Runtime]) -> LastingRuntime:
    """The one that has the instances, whatever it would be for the job's image by now.

    Raises InternalServerError where there is none of that name any more.
    """
    for runtime in runtimes:
        if runtime.traits.name == handle.runtime and isinstance(runtime, LastingRuntime):
            return runtime
    raise InternalServerError(INTERNAL_ERROR)


def can_be_left(spec: JobSpec) -> bool:
    """Whether nothing that the emulator serves ends with it: no pipes, no mounts from S3."""
    return all(channel.s3 is None or channel.input_mode == "File" for channel in spec.channels)
