"""Which runtime a job gets: the one the user set, or the one that can run its image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.runtimes.base import Keeps, Runtime


@dataclass(frozen=True)
class Chosen:
    """A job's runtime, and why it is that one."""

    runtime: Runtime
    reason: str
    """"" where there was nothing to choose."""


class Runtimes:
    """The runtimes of this machine. With both, an image decides."""

    def __init__(
        self,
        process: Runtime | None,
        docker: Runtime | None,
        available: Callable[[str], bool] = lambda _: True,
        reason: str = "",
    ):
        """`available` tells whether the engine has an image or can pull it; `reason` says
        why there is only one runtime, if there is.

        At least one of them must be given.
        """
        self._process = process
        self._docker = docker
        self._available = available
        self._reason = reason

    @property
    def all(self) -> tuple[Runtime, ...]:
        return tuple(runtime for runtime in (self._docker, self._process) if runtime)

    @property
    def summary(self) -> Chosen:
        """What most jobs get, for people to read."""
        if self._docker and self._process:
            reason = "a Docker engine answers; a job whose image it cannot have runs as processes"
            return Chosen(self._docker, reason)
        return Chosen(self.all[0], self._reason)

    def vacate(self, pool: str) -> None:
        """Remove what any of them keeps of that warm pool."""
        for runtime in self.all:
            if isinstance(runtime, Keeps):
                runtime.release(pool)

    def of(self, image: str | None) -> Chosen:
        """The runtime for a job with that image. Raises InternalServerError without an engine."""
        if self._docker is None or self._process is None:
            return Chosen(self.all[0], "")
        if image is not None and self._available(image):
            return Chosen(self._docker, "the Docker engine can have the job's image")
        return Chosen(self._process, f"the Docker engine cannot have the image {image}")
