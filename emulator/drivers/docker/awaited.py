"""The docker runtime from the emulator's start on, be its engine there or not.

At boot the emulator may come before its engine, and the engine may be restarted under it.
Containers of earlier jobs are taken over once it answers, and until then those jobs keep what
they hold (ADR 17).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from docker.client import DockerClient
from docker.errors import DockerException

from emulator.drivers.base import OutputSink, Unreachable
from emulator.drivers.docker.driver import NETWORK_INTERFACE, DockerRuntime, check_image
from emulator.drivers.docker.engine import ENGINE_GONE, Engine
from emulator.drivers.docker.engine_answers import within
from emulator.drivers.docker.fleet import DockerFleet
from emulator.drivers.images.resolution import EngineSilent, Images, Presence
from emulator.model.errors import SetupError
from emulator.model.plan import JobPlan, RuntimeTraits

_RETRY_SECONDS = 2.0
_PING_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Docker:
    """An engine that has answered, and what is made of it."""

    client: DockerClient
    engine: Engine
    images: Images
    runtime: DockerRuntime


class AwaitedDocker:
    """See Runtime, Lasting, Keeps and Awaited in base.py; any thread may use it."""

    def __init__(
        self,
        connect: Callable[[threading.Event], Docker],
        open_late: Callable[[Engine], None] = lambda _: None,
        retry_seconds: float = _RETRY_SECONDS,
    ):
        """`connect` raises SetupError where no engine answers; the event it is given is set
        when the emulator ends.

        `open_late` is called when an engine answers that did not at the start: what its
        containers need of the emulator is to be opened then. It raises OSError.
        """
        self._connect = connect
        self._open_late = open_late
        self._retry_seconds = retry_seconds
        self._closing = threading.Event()
        self._changed = threading.Condition()
        # Changed under the lock only.
        self._found: Docker | None = None
        self._keep: Collection[str] | None = None
        """What clean() was asked for while there was no engine."""
        self._waiting = False
        """A thread tries to connect."""
        self._opened = False
        """What containers need of the emulator is open."""
        self._trouble = "no Docker engine answers"

    def start(self) -> Docker | None:
        """Connect; where no engine answers, that goes on in the background."""
        try:
            found = self._connect(self._closing)
        except SetupError as error:
            self._trouble = error.problem.rstrip(".")
            _log.info("%s. Containers are used once an engine answers.", self._trouble)
            with self._changed:
                self._wait_in_background()
            return None
        with self._changed:
            self._found, self._opened = found, True
        return found

    @property
    def traits(self) -> RuntimeTraits:
        """Before an engine has answered only the name is known."""
        found = self._found
        if found is None:
            return RuntimeTraits("docker", NETWORK_INTERFACE, emulator_url="", engine=True)
        return found.runtime.traits

    def away(self) -> str:
        """See Awaited in base.py."""
        found = self._found
        if found is None:
            return self._trouble
        try:
            within(_PING_SECONDS, found.client.ping)
        except (DockerException, RuntimeError, *ENGINE_GONE):
            return "the Docker engine does not answer"
        return ""

    def stop_waiting(self) -> None:
        """See Awaited in base.py."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    def look_up(self, image: str, *, engine_alone: bool = False) -> Presence:
        """See Images."""
        found = self._found
        if found is None:
            return Presence.UNKNOWN
        return found.images.look_up(image, engine_alone=engine_alone)

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:  # noqa: ARG002
        """See check_image()."""
        check_image(image)

    def prepare(
        self, image: str | None, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        """An engine that is away meanwhile is waited for."""
        runtime = self._once_there()
        while not cancelled():
            try:
                return runtime.prepare(image, say, cancelled)
            except EngineSilent:
                if self._closing.wait(self._retry_seconds):
                    raise
        return None

    def launch(self, plan: JobPlan, sink: OutputSink) -> DockerFleet:
        return self._once_there().launch(plan, sink)

    def adopt(
        self, arn: str, sink: OutputSink, received: Mapping[str, int] | None = None
    ) -> DockerFleet | None:
        """See DockerRuntime; waits for the engine."""
        return self._once_there().adopt(arn, sink, received)

    def remove(self, arn: str) -> None:
        """See DockerRuntime; waits for the engine."""
        self._once_there().remove(arn)

    def clean(self, keep: Collection[str] = ()) -> None:
        """See DockerRuntime; done as soon as the engine answers, before it is used."""
        with self._changed:
            if self._found and self._cleaned(self._found, keep):
                return
            self._found, self._keep = None, frozenset(keep)
            if keep:
                _log.warning("%d jobs wait for the Docker engine: %s", len(keep), self._trouble)
            self._wait_in_background()

    def release(self, pool: str) -> None:
        """Before an engine has answered there is no pool but those that clean() removes."""
        if found := self._found:
            found.runtime.release(pool)

    def _once_there(self) -> DockerRuntime:
        with self._changed:
            self._changed.wait_for(lambda: self._found or self._closing.is_set())
            if self._found is None:
                raise Unreachable(self._trouble)
            return self._found.runtime

    def _wait_in_background(self) -> None:
        """Only under the lock."""
        if not self._waiting:
            threading.Thread(target=self._wait, name="docker engine", daemon=True).start()
            self._waiting = True

    def _wait(self) -> None:
        while not self._closing.wait(self._retry_seconds):
            keep = self._keep
            try:
                found = self._connect(self._closing)
                if keep is not None and not self._cleaned(found, keep):
                    continue
                if not self._opened:
                    self._open_late(found.engine)
                    self._opened = True
            except SetupError as error:
                self._trouble = error.problem.rstrip(".")
                continue
            except Exception as error:  # noqa: BLE001 - a thread's top: it is tried again
                self._trouble = f"the Docker engine cannot be used: {error}"
                _log.warning("%s", self._trouble)
                continue
            with self._changed:
                if self._keep is not keep:
                    continue  # clean() was called meanwhile
                self._found, self._keep, self._waiting = found, None, False
                self._changed.notify_all()
            _log.info("The Docker engine answers: jobs run in containers")
            return

    def _cleaned(self, found: Docker, keep: Collection[str]) -> bool:
        try:
            found.runtime.clean(keep)
        except (DockerException, Unreachable, *ENGINE_GONE) as error:
            _log.warning("What earlier jobs left in the Docker engine stays for now: %s", error)
            return False
        return True
