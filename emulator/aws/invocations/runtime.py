"""The runtime of endpoints, put together: the proxy, the queue and the capture of data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from emulator.aws.invocations.async_queue import AsyncQueue
from emulator.aws.invocations.capture import DataCapture
from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Invocations
from emulator.aws.invocations.queue_store import QueueStore
from emulator.data.objectstore.objects import ObjectStore
from emulator.model.scope import Scope
from emulator.settings import Settings
from emulator.workloads.serving.routes import Routes
from emulator.workloads.serving.store import HostingStore


class Follower(Protocol):
    """What sends requests of its own while the runtime runs."""

    async def start(self, invocations: Invocations) -> None: ...

    async def close(self) -> None: ...


class Runtime:
    """An ASGI application for the requests of sagemaker-runtime."""

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        endpoints: HostingStore,
        queued: QueueStore,
        objects: ObjectStore,
        metrics: InvocationMetrics,
        disturb: Callable[[str], None] = lambda _: None,
        others: Sequence[Follower] = (),
    ):
        """`disturb` may raise an ApiError instead of an operation; `others` send requests, too."""

        def exists(scope: Scope, name: str) -> bool:
            return endpoints.endpoint(scope, name) is not None

        def serves(scope: Scope, name: str) -> bool:
            return routes.find(scope, name) is not None

        self._others = others
        self._capture = DataCapture(objects, serves)
        self._queue = AsyncQueue(queued, objects, routes, exists, metrics)
        self._invocations = Invocations(
            routes, settings, metrics, disturb, observers=(self._capture,), queue=self._queue
        )

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        await self._invocations(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this lasts, the queue is worked on and captured data is written."""
        self._capture.start()
        await self._queue.start(self._invocations)
        for each in self._others:
            await each.start(self._invocations)
        try:
            yield
        finally:
            for each in self._others:
                await each.close()
            await self._queue.stop()
            await self._capture.stop()
