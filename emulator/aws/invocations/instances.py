"""One endpoint's instances, as requests see them: which one is next, and connections to it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from emulator.aws.invocations.container_http import (
    AnswerTimeout,
    ConnectionBroken,
    ContainerConnection,
)
from emulator.aws.invocations.replies import Refusal
from emulator.workloads.serving.routes import Route, RoutedVariant, Table, Target, pick_target

_PAUSE = 0.2
"""Seconds until instances that did not answer are tried again, unless others come before."""
_SILENT_TRIES = 3
"""How often a request may reach an instance that closes the connection without an answer."""
_SESSIONS = 10_000
"""Sessions whose instance is known; older ones may end up at another instance."""
_IDLE = 64
"""Connections that are kept to a container."""

Result = TypeVar("Result")


class Unanswered(Exception):
    """A container did not give one byte of an answer: another instance may be asked."""

    def __init__(self, reached: bool):
        super().__init__()
        self.reached = reached
        """Whether the request may have reached the container."""


class Silent(Exception):
    """Containers take the request, and close the connection without an answer."""


class NoInstance(Exception):
    """None has come in time."""


@dataclass(frozen=True)
class Lent(Generic[Result]):
    """An instance that works on a request until `target.leave`, and what it has given so far."""

    variant: RoutedVariant
    target: Target
    result: Result


Choose = Callable[[Table], RoutedVariant]
"""The variant for a request. Raises Refusal."""


class Instances:
    """Belongs to one event loop; only the tables come from other threads."""

    def __init__(self, route: Route, dialers: Executor, gone: Refusal):
        """`gone` answers requests that wait while the endpoint is deleted."""
        self._route = route
        self._dialers = dialers
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._idle: dict[Target, dict[int, deque[ContainerConnection]]] = {}
        self._sessions: OrderedDict[str, Target] = OrderedDict()
        self._unwatch = route.watch(self._published)

    def close(self) -> None:
        """End all connections that no request uses."""
        self._unwatch()
        for target in list(self._idle):
            self._forget(target)

    # Which instance

    async def with_one(
        self,
        choose: Choose,
        attempt: Callable[[RoutedVariant, Target], Awaitable[Result]],
        session: str | None,
        seconds: float,
    ) -> Lent[Result]:
        """Let an instance of the chosen variant answer; the caller has to call `target.leave`.

        An instance that gives no byte of an answer is passed over for another one; where there is
        none, the request waits for one, up to `seconds`. `attempt` raises Unanswered for such an
        instance. Raises Refusal, Silent, NoInstance and what `attempt` raises.
        """
        deadline = self._loop.time() + seconds
        passed: set[Target] = set()
        silent = 0
        while True:
            table = self._route.table
            if table is None:
                raise self._gone
            variant = choose(table)
            target = self._pick(variant, passed, session)
            if target is None:
                await self._wait(variant, bool(passed), deadline)
                passed.clear()
                continue
            target.enter(time.time())
            if self._route.table is not table and target not in _targets(self._route.table):
                target.leave()  # it may have been told to end before it knew of this request
                continue
            try:
                return Lent(variant, target, await attempt(variant, target))
            except Unanswered as error:
                target.leave()
                passed.add(target)
                silent += error.reached
                if silent == _SILENT_TRIES:
                    raise Silent from error
            except BaseException:
                target.leave()
                raise

    def _pick(
        self, variant: RoutedVariant, passed: set[Target], session: str | None
    ) -> Target | None:
        if passed:
            left = tuple(each for each in variant.targets if each not in passed)
            variant = replace(variant, targets=left)
        if session is not None and (known := self._sessions.get(session)) in variant.targets:
            return known
        return pick_target(variant)

    async def _wait(self, variant: RoutedVariant, has_passed: bool, deadline: float) -> None:
        """Until there is another table, or instances that did not answer can be tried again."""
        left = deadline - self._loop.time()
        if left <= 0:
            raise NoInstance
        if not variant.targets:
            self._route.wake(variant.spec.name)
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait_for(future, min(left, _PAUSE) if has_passed else left)
        except asyncio.TimeoutError:
            pass
        finally:
            self._waiting.discard(future)

    def remember(self, session: str, target: Target) -> None:
        """Requests of this session go to this instance."""
        self._sessions[session] = target
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def forget_session(self, session: str) -> None:
        self._sessions.pop(session, None)

    # Connections

    async def ask(
        self, target: Target, container: int, head: bytes, body: bytes, seconds: float
    ) -> ContainerConnection:
        """Send a request, and wait for the head of its answer; `give_back` has to follow.

        A connection that was kept may have been closed by the container meanwhile: then the
        request is sent again on a new one. Raises Unanswered, and ConnectionBroken where an answer
        had begun or did not come in time.
        """
        if kept := self._kept(target, container):
            try:
                return await self._sent(kept, head, body, seconds)
            except Unanswered:
                self._drop_idle(target, container)
        return await self._sent(await self._dial(target, container), head, body, seconds)

    def give_back(self, target: Target, container: int, connection: ContainerConnection) -> None:
        """The answer was read, or is not wanted any more."""
        if not connection.finish():
            return
        kept = self._idle.setdefault(target, {}).setdefault(container, deque())
        if len(kept) >= _IDLE or target not in _targets(self._route.table):
            connection.close()
        else:
            kept.append(connection)

    async def _sent(
        self, connection: ContainerConnection, head: bytes, body: bytes, seconds: float
    ) -> ContainerConnection:
        try:
            connection.send(head, body, seconds)
            await connection.head()
        except AnswerTimeout:
            raise
        except ConnectionBroken as error:
            connection.close()
            if connection.has_answered:
                raise
            raise Unanswered(reached=True) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _kept(self, target: Target, container: int) -> ContainerConnection | None:
        kept = self._idle.get(target, {}).get(container)
        while kept:
            connection = kept.pop()  # the newest: the container closes others first
            if connection.is_open:
                return connection
        return None

    async def _dial(self, target: Target, container: int) -> ContainerConnection:
        try:
            connected = await self._loop.run_in_executor(self._dialers, target.dial, container)
            connected.setblocking(False)
            _, connection = await self._loop.create_connection(ContainerConnection, sock=connected)
        except OSError as error:
            raise Unanswered(reached=False) from error
        return connection

    def _drop_idle(self, target: Target, container: int) -> None:
        for connection in self._idle.get(target, {}).pop(container, ()):
            connection.close()

    # Tables

    def _published(self) -> None:
        """Called by any thread."""
        try:
            self._loop.call_soon_threadsafe(self._look_again)
        except RuntimeError:  # the loop has ended
            return

    def _look_again(self) -> None:
        present = set(_targets(self._route.table))
        for target in [each for each in self._idle if each not in present]:
            self._forget(target)
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _forget(self, target: Target) -> None:
        for connections in self._idle.pop(target, {}).values():
            for connection in connections:
                connection.close()
        for session in [name for name, each in self._sessions.items() if each is target]:
            del self._sessions[session]


def _targets(table: Table | None) -> Iterator[Target]:
    if table is not None:
        for variant in (*table.variants, *table.shadows):
            yield from variant.targets
