"""One instance of an endpoint, from its capacity to its removal, in a thread of its own."""

from __future__ import annotations

import logging
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from functools import partial

from emulator.data.objectstore.objects import Cancelled
from emulator.drivers.base import (
    Awaited,
    Fleet,
    HandsOver,
    Lasting,
    Leavable,
    OutOfReach,
    Reachable,
    Runtime,
    Unreachable,
)
from emulator.drivers.choice import Chosen
from emulator.model.errors import InternalServerError, JobError, ResourceNotFound
from emulator.model.plan import Exit
from emulator.placement.leases import Lease
from emulator.telemetry.logs.collector import LineCollector
from emulator.workloads.run.directories import remove_directory
from emulator.workloads.serving.context import ServingContext
from emulator.workloads.serving.failures import (
    EndpointFailure,
    no_image,
    no_ping,
    not_started,
    with_tail,
)
from emulator.workloads.serving.instance_plan import MODELS, ContainerDirs, plan_instance
from emulator.workloads.serving.instance_spec import InstanceSpec
from emulator.workloads.serving.model_data import Staged
from emulator.workloads.serving.ping import ping
from emulator.workloads.serving.routes import Target
from emulator.workloads.serving.store import InstanceRow

_FIRST_PINGS = 0.05
_PINGS = 0.25
"""Seconds between two pings of an instance that starts: at first, and later."""
_PATIENCE = 3
"""Pings in a row that an instance in service may leave without an answer."""
_PUBLISHED_SECONDS = 0.2
"""After which no request is sent to an instance that has left the table."""
_LOOK = 0.25
_AWAY_SECONDS = 2.0
_TAIL_LINES = 15
TAKEN_OVER = "The emulator was restarted; this instance went on meanwhile."
_log = logging.getLogger(__name__)


class State(Enum):
    """What an instance does; the order of its life."""

    STARTING = "it waits, is made, or does not answer pings yet"
    IN_SERVICE = "it answers requests"
    LEAVING = "it finishes its requests and ends"
    GONE = "nothing is left of it"


class EndedEarly(EndpointFailure):
    """The container ended before it answered a ping: another one is tried once."""


class ModelInstance:
    """Started by `start` or `take_over`; `changed` is called after every change of its state."""

    def __init__(
        self,
        context: ServingContext,
        spec: InstanceSpec,
        deployment: int,
        changed: Callable[[], None],
    ):
        """`deployment` is the number of the one that it belongs to."""
        self.spec = spec
        self.state = State.STARTING
        self.message = ""
        """What it waits for."""
        self.failure: JobError | None = None
        """Why it ends, if nobody wanted it to."""
        self.since = context.clock.now()
        """When it came into its state (epoch seconds)."""
        self.target: Target | None = None
        """Where requests go, once it has been in service."""
        self.adopted = False
        """Whether an earlier emulator has started it."""
        self._adopting = False
        """It runs, and this emulator does not follow it yet."""
        self._context = context
        self._deployment = deployment
        self._changed = changed
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._leaves = False
        self._resources = ExitStack()
        self._lease: Lease | None = None
        self._lines: LineCollector | None = None
        self._fleet: Fleet | None = None
        self._running: set[str] = set()
        """The hostnames of its containers that have not ended."""
        self._data: dict[str, Staged] = {}
        self._unpacking = threading.Lock()
        self._directory = context.directory_of(spec.scope, spec.endpoint, spec.id)
        self._thread: threading.Thread | None = None

    # What the endpoint's thread calls

    def start(self) -> None:
        """Begin to live. Raises RuntimeError where there can be no more threads."""
        self._begin(self._make)

    def take_over(self, lease: Lease, runtime: str) -> None:
        """Go on with an instance that an earlier emulator has started. Raises RuntimeError."""
        self._lease = lease
        self.adopted = self._adopting = True
        self._begin(lambda: self._adopt(runtime))

    def retire(self, hurry: bool = False) -> None:
        """Finish the requests that came, then end; `hurry` waits for none.

        It must have left the table of the route before.
        """
        if hurry:
            self._hurry.set()
        self._stop.set()
        self._context.capacity.wake()

    def shut_down(self, leaves: bool) -> None:
        """The emulator ends; the instance goes on where it can and `leaves` is true."""
        self._leaves = leaves
        self._hurry.set()
        self._stop.set()
        self._context.capacity.wake()

    def join(self, timeout: float) -> bool:
        """Wait for its thread; False when `timeout` seconds were too short."""
        if self._thread:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    # Its own thread

    def _begin(self, make: Callable[[], None]) -> None:
        name = f"{self.spec.endpoint} {self.spec.id}"
        self._thread = threading.Thread(target=self._run, args=(make,), name=name, daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[], None]) -> None:
        try:
            make()
            self._until_ready()
            self._serve()
        except Cancelled:
            _log.debug("%s is not wanted any more", self.spec.label)
        except Unreachable:
            self._leaves = True  # it is out of reach, and goes on
        except JobError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a thread's top: it owes an end
            _log.exception("%s cannot be kept running", self.spec.label)
            self._fail(InternalServerError(str(error)))
        finally:
            self._put_away()

    def _fail(self, error: JobError) -> None:
        if not self._stop.is_set():
            _log.warning("%s: %s", self.spec.label, error)
            self.failure = error

    def _enter(self, state: State, message: str = "") -> None:
        self.state, self.message, self.since = state, message, self._context.clock.now()
        self._changed()

    def _say(self, message: str) -> None:
        self.message = message
        self._changed()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Cancelled(self.spec.label)

    def _make(self) -> None:
        """Everything up to the start of its containers."""
        context = self._context
        chosen = self._choose()
        runtime = chosen.runtime
        self._acquire(runtime)
        self._go_on()
        if runtime.traits.shares_ports:
            self.spec = replace(self.spec, port=_free_ports(len(self.spec.variant.containers)))
        remove_directory(self._directory)
        dirs = self._dirs()
        try:
            for each in dirs.values():
                each.create()
        except OSError as error:
            raise InternalServerError(f"Its directories cannot be made: {error}") from error
        lines = self._open_lines(go_on=False)
        for note in self._lease.notes if self._lease else ():
            lines.say_all(note)
        if chosen.reason:
            lines.say_all(f"Runtime {runtime.traits.name}: {chosen.reason}")
        self._stage(dirs, runtime)
        self._say("Preparing the image")
        for image in dict.fromkeys(each.image for each in self.spec.variant.containers):
            try:
                runtime.prepare(image, lines.say_all, self._stop.is_set)
            except JobError as error:
                raise no_image(self.spec.variant.name, str(error)) from error
            self._go_on()
        self._say("Starting the container")
        plan = plan_instance(
            self.spec,
            dirs,
            {hostname: staged.mounts for hostname, staged in self._data.items()},
            runtime.traits,
            self._lease.gpus.get(self.spec.id, ()) if self._lease else (),
            context.credentials,
            context.leaves_instances,
        )
        # Before it is started: the next emulator looks for it.
        context.store.add_instance(
            InstanceRow(
                self.spec.id,
                self.spec.scope,
                self.spec.endpoint,
                self._deployment,
                self.spec.variant.name,
                runtime.traits.name,
                context.clock.now(),
                self.spec.port,
            )
        )
        self._fleet = runtime.launch(plan, lines.feed)
        self._running = set(dirs)

    def _choose(self) -> Chosen:
        """The runtime of its containers. Raises JobError where it can run in none."""
        images = [each.image for each in self.spec.variant.containers]
        chosen = self._context.runtimes.of(images[0])
        chosen.runtime.check(images[0], len(images), self.spec.variant.network_isolation)
        return chosen

    def _acquire(self, runtime: Runtime) -> None:
        """Wait for the runtime and for GPUs. Raises CapacityError and Cancelled."""
        while isinstance(runtime, Awaited) and (why := runtime.away()):
            self._say(why)
            if self._stop.wait(_AWAY_SECONDS):
                raise Cancelled(self.spec.label)
        self._lease = self._context.capacity.acquire(
            self.spec, self._stop, lambda: self._say(f"Waiting: {self._why_it_waits()}")
        )
        if self._lease is None:
            raise Cancelled(self.spec.label)

    def _why_it_waits(self) -> str:
        queued = self._context.capacity.queued(self.spec.arn)
        return queued.reason if queued else "it starts next"

    def _stage(self, dirs: Mapping[str, ContainerDirs], runtime: Runtime) -> None:
        context, variant = self._context, self.spec.variant
        self._say("Downloading the model")
        deadline = context.clock.monotonic() + variant.download_seconds

        def cancelled() -> bool:
            return self._stop.is_set() or context.clock.monotonic() > deadline

        try:
            for container in variant.containers:
                self._data[container.hostname] = context.models.stage(
                    container, dirs[container.hostname], runtime.traits, cancelled
                )
        except Cancelled:
            self._go_on()
            raise EndpointFailure(
                f"The model data for production variant {variant.name} could not be downloaded "
                f"within {variant.download_seconds:.0f} seconds."
            ) from None

    def _adopt(self, name: str) -> None:
        """Find the containers that run already. Raises JobError where they are gone."""
        runtime = self._context.runtimes.named(name)
        if not isinstance(runtime, Lasting):
            raise InternalServerError(f"There is no runtime {name} any more")
        lines = self._open_lines(go_on=True)
        try:
            self._fleet = runtime.adopt(self.spec.arn, lines.feed, lines.received)
            if self._fleet is None:
                raise InternalServerError("The instance was lost while no emulator ran")
        except Unreachable:
            raise  # it goes on, and the next emulator looks for it
        except Exception:
            self._adopting = False
            runtime.remove(self.spec.arn)  # what runs of it would keep the GPUs of the next one
            raise
        self._adopting = False
        self._running = set(self._dirs())
        lines.say_all(TAKEN_OVER)

    def _until_ready(self) -> None:
        """Wait until all containers answer pings. Raises EndpointFailure."""
        clock, variant = self._context.clock, self.spec.variant
        started = clock.monotonic()
        waiting = list(range(len(variant.containers)))
        self._say("Waiting for the container to answer pings")
        while waiting:
            waited = clock.monotonic() - started
            if end := self._next_exit(_FIRST_PINGS if waited < 1 else _PINGS):
                raise self._told(EndedEarly, not_started(variant.name, self._image_of(end.host)))
            self._go_on()
            waiting = [number for number in waiting if not self._answers(number)]
            if waiting and waited > variant.startup_seconds:
                several = len(variant.containers) > 1
                hostname = variant.containers[waiting[0]].hostname
                silent = no_ping(variant.name, hostname if several else None)
                raise self._told(EndpointFailure, silent)

    def _serve(self) -> None:
        """Answer requests until it shall end; EndpointFailure where it ends by itself."""
        self._note_serving()
        multi = any(each.models is not None for each in self.spec.variant.containers)
        self.target = Target(self.spec.id, self._dial, self._unpack if multi else None)
        self._enter(State.IN_SERVICE)
        missed = 0
        number = 0
        while not self._stop.is_set():
            if end := self._next_exit(0):
                raise self._told(
                    EndpointFailure,
                    EndpointFailure(f"The container {end.host} ended with code {end.code}."),
                )
            if self._stop.wait(_LOOK):
                break
            number += 1
            if number * _LOOK < self._context.ping_seconds:
                continue
            number = 0
            containers = range(len(self.spec.variant.containers))
            answers = all(map(self._answers, containers))
            missed = 0 if answers or self._out_of_reach() else missed + 1
            if missed >= _PATIENCE:
                raise self._told(
                    EndpointFailure,
                    EndpointFailure(f"The container did not answer {missed} pings in a row."),
                )

    def _note_serving(self) -> None:
        try:
            self._context.store.note_serving(self.spec.id)
        except sqlite3.Error as error:
            _log.warning("%s: that it serves is not recorded: %s", self.spec.label, error)

    def _out_of_reach(self) -> bool:
        return isinstance(self._fleet, OutOfReach) and self._fleet.out_of_reach

    def _next_exit(self, timeout: float) -> Exit | None:
        if self._fleet is None or self._lines is None:
            return None
        end = self._fleet.next_exit(timeout)
        if end:
            self._running.discard(end.host)
            self._lines.finish(end.host)
        self._lines.flush_stale()
        return end

    def _answers(self, container: int) -> bool:
        """Whether that container answers a ping."""
        return ping(partial(self._dial, container))

    def _dial(self, container: int) -> socket.socket:
        fleet = self._fleet
        if not isinstance(fleet, Reachable):
            raise OSError(f"{self.spec.label} cannot be reached")
        hostname = self.spec.variant.containers[container].hostname
        return fleet.dial(hostname, self.spec.port_of(container))

    def _unpack(self, number: int, name: str, directory: str) -> str:
        """See Unpack in routes.py."""
        container = self.spec.variant.containers[number]
        place = self._dirs()[container.hostname].models / directory / "model"
        with self._unpacking:
            if not place.is_dir():
                self._context.models.unpack(container, name, place)
        return f"{MODELS}/{directory}/model"

    def _image_of(self, hostname: str) -> str:
        containers = self.spec.variant.containers
        return next(each.image for each in containers if each.hostname == hostname)

    def _dirs(self) -> dict[str, ContainerDirs]:
        return {
            each.hostname: ContainerDirs(self._directory / each.hostname)
            for each in self.spec.variant.containers
        }

    def _open_lines(self, go_on: bool) -> LineCollector:
        context, spec = self._context, self.spec
        self._lines = LineCollector(
            context.logs,
            spec.scope,
            spec.log_group,
            spec.streams,
            spec.label,
            context.clock.now,
            go_on,
        )
        return self._lines

    def _told(self, kind: type[EndpointFailure], error: EndpointFailure) -> EndpointFailure:
        """The failure with the last lines of the log."""
        lines: list[str] = []
        for stream in self.spec.streams.values():
            try:
                page = self._context.logs.backward(
                    self.spec.scope, self.spec.log_group, stream, limit=_TAIL_LINES
                )
            except (ResourceNotFound, OSError):
                continue
            lines += [event.message for event in page.events]
        return kind(with_tail(str(error), lines[-_TAIL_LINES:]))

    def _put_away(self) -> None:
        try:
            if self._leaves and self._leave():
                return
            if self.target:
                self._enter(State.LEAVING)
                self._drain()
            with ExitStack() as left:  # the last one first; what one raises is no other's affair
                left.callback(self._forget)
                left.callback(self._give_back)
                left.callback(remove_directory, self._directory)
                for staged in self._data.values():
                    left.callback(staged.release)
                left.callback(self._close_lines)
                left.callback(self._end)
        except Exception:  # noqa: BLE001 - the top of the thread
            _log.exception("%s: not all of it was removed", self.spec.label)
        finally:
            self._enter(State.GONE, self.message)

    def _leave(self) -> bool:
        """Let go of the containers, which go on; False where they cannot."""
        if self.failure is None and self._fleet is None:
            return self._adopting or self._lease is None
        if self.failure is not None or not isinstance(self._fleet, Leavable):
            return False
        self._fleet.leave()
        if self._lines:
            self._lines.leave()
        return True

    def _drain(self) -> None:
        """Wait until its last request has been answered, or it has ended."""
        target, clock = self.target, self._context.clock
        if target is None or self.failure is not None:
            return
        deadline = clock.monotonic() + self._context.drain_seconds
        self._hurry.wait(_PUBLISHED_SECONDS)
        while target.open and clock.monotonic() < deadline and not self._hurry.is_set():
            with target.idle:
                target.idle.wait(_LOOK)
            if self._next_exit(0):
                return

    def _end(self) -> None:
        """SIGTERM, grace, SIGKILL; nothing of its containers is left then."""
        fleet, clock, context = self._fleet, self._context.clock, self._context
        if fleet is None:
            return
        try:
            fleet.terminate()
            started = clock.monotonic()
            while self._running:
                grace = context.hurried_grace if self._hurry.is_set() else context.stop_grace
                if clock.monotonic() - started >= grace:
                    fleet.kill()
                    break
                self._next_exit(_LOOK)
            if isinstance(fleet, HandsOver):
                fleet.hand_over()
        finally:
            self._fleet = None
            fleet.close()

    def _close_lines(self) -> None:
        if self._lines:
            self._lines.close()

    def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        if lease:
            self._context.capacity.release(lease)

    def _forget(self) -> None:
        try:
            self._context.store.remove_instance(self.spec.id)
        except sqlite3.Error as error:  # the next emulator finds nothing of it, and forgets it
            _log.warning("%s: its end is not recorded: %s", self.spec.label, error)


def _free_ports(count: int) -> int:
    """The first of several free ports of this machine, one after another; never 8080.

    Raises InternalServerError.
    """
    for _ in range(100):
        first = 20_000 + secrets.randbelow(12_000)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise InternalServerError("This machine has no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
