"""InvokeEndpointAsync: requests wait in the database, and their results go to S3.

A request is kept before it is accepted, and removed once its result is in S3: one that was being
worked on when the emulator ended is sent to the model again.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar
from uuid import uuid4

from emulator.aws.invocations.container_http import Headers
from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.proxy import Answer, Invocations
from emulator.aws.invocations.queue_store import QueueStore, Waiting
from emulator.aws.invocations.replies import Refusal, invalid
from emulator.aws.invocations.request import Invocation, read_invocation
from emulator.data.objectstore.failures import StoreError
from emulator.model.hosting import AsyncOutput, Deployment
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri
from emulator.workloads.serving.routes import Routes

BODY_LIMIT = 128_000
"""Bytes of a body that comes with the request (API reference)."""
INPUT_LIMIT = 1024 * 1024 * 1024
"""Bytes of an object that is the body (developer guide)."""
TTL_SECONDS = 21_600.0
INVOCATION_SECONDS = 900.0
_TTL = range(60, 21_601)
_INVOCATION = range(1, 3_601)
_LOOK_SECONDS = 5.0
_RETRY_SECONDS = 2.0
_THREADS = 16
_INPUT = b"x-amzn-sagemaker-inputlocation"
_TTL_HEADER = b"x-amzn-sagemaker-requestttlseconds"
_SECONDS_HEADER = b"x-amzn-sagemaker-invocationtimeoutseconds"
_EXTENSION = b"x-amzn-sagemaker-s3outputpathextension"
_FILENAME = b"x-amzn-sagemaker-filename"
_NOT_YET = ("ServiceUnavailable", "ModelNotReadyException", "ThrottlingException")
"""Answers that say nothing of the request: it is sent again."""

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Objects(Protocol):
    """Where inputs and results are. Every method raises StoreError."""

    def read(self, bucket: str, key: str) -> Iterator[bytes]: ...

    def upload(self, bucket: str, key: str, stream: io.BytesIO) -> None: ...


class AsyncQueue:
    """The requests of all asynchronous endpoints; belongs to one event loop."""

    def __init__(
        self,
        store: QueueStore,
        objects: Objects,
        routes: Routes,
        exists: Callable[[Scope, str], bool],
        metrics: InvocationMetrics,
        clock: Callable[[], float] = time.time,
    ):
        """`exists` says whether there is such an endpoint, whatever its status."""
        self._store = store
        self._objects = objects
        self._routes = routes
        self._exists = exists
        self._metrics = metrics
        self._clock = clock
        self._invocations: Invocations | None = None
        self._workers: dict[tuple[Scope, str], _Worker] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "async-invocations")

    async def start(self, invocations: Invocations) -> None:
        """Go on with what an earlier emulator has accepted."""
        self._invocations = invocations
        for scope, endpoint in await self.blocking(self._store.endpoints):
            self._poke(scope, endpoint)

    async def stop(self) -> None:
        """Work on no further request; those that have no result stay in the database."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.task.cancel()
        await asyncio.gather(*(worker.task for worker in workers), return_exceptions=True)
        self._threads.shutdown(wait=False)

    async def accept(
        self, scope: Scope, deployment: Deployment, call: Invocation, body: bytes
    ) -> tuple[bytes, Headers]:
        """Keep a request. Raises Refusal."""
        assert deployment.queue is not None  # noqa: S101 - asked for asynchronous endpoints alone
        waiting = accepted(scope, deployment.queue, call, body, str(uuid4()), self._clock())
        await self.blocking(self._store.add, waiting)
        self._poke(scope, call.endpoint)
        identifier = call.inference_id or waiting.id
        headers = [(b"x-amzn-sagemaker-outputlocation", str(waiting.output).encode())]
        if waiting.failure:
            headers.append((b"x-amzn-sagemaker-failurelocation", str(waiting.failure).encode()))
        return json.dumps({"InferenceId": identifier}).encode(), headers

    async def blocking(self, function: Callable[..., Result], *args: object) -> Result:
        """Let a thread do it: the database, and objects."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _poke(self, scope: Scope, endpoint: str) -> None:
        """There is something to do for an endpoint."""
        if self._invocations is None:
            return
        worker = self._workers.get((scope, endpoint))
        if worker is None or worker.task.done():
            worker = _Worker(self, self._invocations, scope, endpoint)
            self._workers[(scope, endpoint)] = worker
        worker.wake.set()


class _Worker:
    """The requests of one endpoint, as long as there are any."""

    def __init__(self, queue: AsyncQueue, invocations: Invocations, scope: Scope, endpoint: str):
        self._queue = queue
        self._store = queue._store
        self._invocations = invocations
        self._scope = scope
        self._endpoint = endpoint
        self._running: dict[str, asyncio.Task[None]] = {}
        self.wake = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                try:
                    if not await self._step() and not self.wake.is_set():
                        return
                except Exception:  # the top of a task: nobody else would go on
                    log.exception("the queue of endpoint %s waits", self._endpoint)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), _LOOK_SECONDS)
                self.wake.clear()
        finally:
            for task in self._running.values():
                task.cancel()

    async def _step(self) -> bool:
        """Begin what can be begun; whether there is anything left."""
        queue, key = self._queue, (self._scope, self._endpoint)
        if not await queue.blocking(queue._exists, *key):
            lost = await queue.blocking(self._store.remove_all, *key)
            if lost:
                log.warning("%d requests are lost with endpoint %s", lost, self._endpoint)
            return False
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        slots, instances = self._slots()
        room = slots - len(self._running)
        if room > 0:
            for each in await queue.blocking(self._store.next, *key, room, tuple(self._running)):
                task = asyncio.get_running_loop().create_task(self._carry_out(each))
                self._running[each.id] = task
                task.add_done_callback(lambda _: self.wake.set())
        backlog = await queue.blocking(self._store.backlog, *key)
        now = queue._clock()
        queue._metrics.add(
            (self._scope, self._endpoint, ""),
            {
                ("ApproximateBacklogSize", "None"): backlog.count,
                ("ApproximateBacklogSizePerInstance", "None"): backlog.count / max(1, instances),
                ("ApproximateAgeOfOldestRequest", "Seconds"): max(0.0, now - backlog.oldest)
                if backlog.oldest
                else 0.0,
                ("HasBacklogWithoutCapacity", "None"): backlog.count > 0 and instances == 0,
            },
        )
        return backlog.count > 0

    def _slots(self) -> tuple[int, int]:
        """Requests that are worked on at once, and instances; at least one wakes an instance."""
        route = self._queue._routes.find(self._scope, self._endpoint)
        table = route.table if route else None
        if table is None or table.deployment.queue is None:
            return 0, 0
        instances = sum(len(each.targets) for each in table.variants)
        return table.deployment.queue.max_concurrent * max(1, instances), instances

    async def _carry_out(self, waiting: Waiting) -> None:
        """Until its result is in S3."""
        queue, began = self._queue, self._queue._clock()
        try:
            result, counted = await self._result(waiting)
            if result is None:
                await asyncio.sleep(_RETRY_SECONDS)  # no instance could take it
                return
            where, content = result
            while where is not None and not await self._put(where, content):
                await asyncio.sleep(_RETRY_SECONDS)
            await queue.blocking(self._store.remove, waiting.id)
            now = queue._clock()
            times = {
                ("TimeInBacklog", "Milliseconds"): (began - waiting.created) * 1e3,
                ("TotalProcessingTime", "Milliseconds"): (now - waiting.created) * 1e3,
            }
            queue._metrics.add((self._scope, self._endpoint, ""), {**counted, **times})
        except Exception:  # the top of a task: it stays in the queue
            log.exception("request %s of endpoint %s is tried again", waiting.id, self._endpoint)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _result(
        self, waiting: Waiting
    ) -> tuple[tuple[S3Uri | None, bytes] | None, dict[tuple[str, str], float]]:
        """Where what has to be written, if the request came to an end, and what to count."""
        if self._queue._clock() > waiting.expires:
            told = f"The request {waiting.id} has waited for more than RequestTTLSeconds."
            return (waiting.failure, told.encode()), {("ExpiredRequests", "None"): 1}
        try:
            answer = await self._answer(waiting)
        except Refusal as refusal:
            if refusal.code in _NOT_YET:
                return None, {}
            return (waiting.failure, refusal.message.encode()), _FAILED
        except StoreError as error:
            if error.transient:
                return None, {}
            told = f"The input {waiting.input} cannot be read: {error}"
            return (waiting.failure, told.encode()), _FAILED
        return (waiting.output, answer.body), {("InvocationsProcesssed", "None"): 1}

    async def _answer(self, waiting: Waiting) -> Answer:
        """Raises Refusal and StoreError."""
        path = f"/endpoints/{waiting.endpoint}/async-invocations".encode()
        call = read_invocation(path, waiting.headers)
        assert call is not None  # noqa: S101 - it was accepted
        body = waiting.body
        if body is None:
            assert waiting.input is not None  # noqa: S101 - one of both is there
            body = await self._queue.blocking(_whole, self._queue._objects, waiting.input)
        way = self._invocations.way(waiting.scope, waiting.endpoint)
        return await way.invoke(call, body, waiting.seconds, INPUT_LIMIT)

    async def _put(self, where: S3Uri, content: bytes) -> bool:
        """Whether the object is there, or never will be.

        It is written as a whole, since clients wait for it to appear.
        """
        upload = self._queue._objects.upload
        try:
            await self._queue.blocking(upload, where.bucket, where.key, io.BytesIO(content))
        except StoreError as error:
            yet = " yet" if error.transient else ""
            log.warning("the result %s is not written%s: %s", where, yet, error)
            return not error.transient
        return True


_FAILED = {("InvocationsProcesssed", "None"): 1.0, ("InvocationFailures", "None"): 1.0}


def accepted(
    scope: Scope, output: AsyncOutput, call: Invocation, body: bytes, identifier: str, now: float
) -> Waiting:
    """The request as it is kept (pure). Raises Refusal."""
    location = call.text(_INPUT)
    if (location is None) == (not body):
        raise invalid("Either InputLocation or Body must be given, and not both of them.")
    if len(body) > BODY_LIMIT:
        raise invalid(f"Body must have at most {BODY_LIMIT} bytes; use InputLocation for more.")
    try:
        source = S3Uri.parse(location) if location is not None else None
    except ValueError as error:
        raise invalid(str(error)) from error
    ttl = _number(call, _TTL_HEADER, "requestTTLSeconds", _TTL, TTL_SECONDS)
    seconds = _number(
        call, _SECONDS_HEADER, "invocationTimeoutSeconds", _INVOCATION, INVOCATION_SECONDS
    )
    extension = [part for part in (call.text(_EXTENSION) or "").split("/") if part]
    name = call.text(_FILENAME) or f"{identifier}.out"
    failure = output.failure and output.failure.join(*extension, f"{identifier}-error.out")
    return Waiting(
        id=identifier,
        scope=scope,
        endpoint=call.endpoint,
        created=now,
        expires=now + ttl,
        seconds=seconds,
        headers=_kept(call),
        input=source,
        body=None if source else body,
        output=output.output.join(*extension, name),
        failure=failure,
    )


def _kept(call: Invocation) -> Headers:
    wanted = (b"x-amzn-sagemaker-content-type", b"x-amzn-sagemaker-accept")
    return [*((n, v) for n, v in call.headers.items() if n in wanted), *call.passed]


def _number(call: Invocation, header: bytes, member: str, allowed: range, default: float) -> float:
    text = call.text(header)
    if text is None:
        return default
    if not text.isdecimal() or int(text) not in allowed:
        raise invalid(
            f"1 validation error detected: Value '{text}' at '{member}' failed to satisfy "
            f"constraint: Member must be between {allowed[0]} and {allowed[-1]}"
        )
    return float(text)


def _whole(objects: Objects, uri: S3Uri) -> bytes:
    """An object; raises StoreError and Refusal."""
    pieces = bytearray()
    for piece in objects.read(uri.bucket, uri.key):
        pieces += piece
        if len(pieces) > INPUT_LIMIT:
            raise invalid(f"The input {uri} has more than {INPUT_LIMIT} bytes.")
    return bytes(pieces)
