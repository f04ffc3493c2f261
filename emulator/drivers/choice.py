"""Which runtime a job gets: the one the user set, or the one that can run its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from emulator.drivers.base import Awaited, Keeps, Runtime
from emulator.drivers.images.resolution import Presence


@dataclass(frozen=True)
class Chosen:
    """A job's runtime, and why it is that one."""

    runtime: Runtime
    reason: str
    """"" where there was nothing to choose."""


class LooksUp(Protocol):
    """Knows which images there are; Images is one."""

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence: ...


class Runtimes:
    """The runtimes of this machine. With both, an image decides."""

    def __init__(
        self,
        process: Runtime | None,
        docker: Runtime | None,
        images: LooksUp | None = None,
        reason: str = "",
    ):
        """`images` are those of the engine, if there is one; `reason` says why there is only
        one runtime, or what is wrong with processes.

        At least one of them must be given.
        """
        self._process = process
        self._docker = docker
        self._images = images
        self._reason = reason

    @property
    def all(self) -> tuple[Runtime, ...]:
        return tuple(runtime for runtime in (self._docker, self._process) if runtime)

    def summary(self, away: str = "") -> Chosen:
        """What most jobs get, for people to read; `away` is what away() said."""
        if self._docker and self._process:
            if away:
                reasons = (away, "containers are used once an engine answers", self._reason)
                return Chosen(self._process, "; ".join(filter(None, reasons)))
            reason = "a Docker engine answers; a job whose image it cannot have runs as processes"
            return Chosen(self._docker, reason)
        return Chosen(self.all[0], f"{self._reason}; {away}" if away else self._reason)

    def away(self) -> str:
        """Why no container can be started now; "" if one can, or if none is wanted."""
        return self._docker.away() if isinstance(self._docker, Awaited) else ""

    def stop_waiting(self) -> None:
        """The emulator ends: nobody waits for an engine that is away any more."""
        for runtime in self.all:
            if isinstance(runtime, Awaited):
                runtime.stop_waiting()

    @property
    def has_engine(self) -> bool:
        """Whether there is an engine that has images."""
        return self._images is not None

    @property
    def may_stand_in(self) -> bool:
        """Whether a job can run without its image, in the process runtime."""
        return self._process is not None

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence:
        """Whether the image exists, as far as an engine and its registry tell; see Images."""
        if self._images is None:
            return Presence.UNKNOWN
        return self._images.look_up(image, engine_alone=engine_alone)

    def vacate(self, pool: str) -> None:
        """Remove what any of them keeps of that warm pool."""
        for runtime in self.all:
            if isinstance(runtime, Keeps):
                runtime.release(pool)

    def named(self, name: str | None) -> Runtime | None:
        """The runtime of that name, if the settings allow it."""
        return next((runtime for runtime in self.all if runtime.traits.name == name), None)

    def of(self, image: str | None) -> Chosen:
        """The runtime for a job with that image."""
        if self._docker is None or self._process is None:
            return Chosen(self.all[0], "")
        if image is not None and self.look_up(image).usable:
            return Chosen(self._docker, "the Docker engine can have the job's image")
        reason = self.away() or f"the Docker engine cannot have the image {image}"
        return Chosen(self._process, reason)
