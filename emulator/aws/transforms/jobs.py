"""Transform jobs, each a task of the runtime's event loop.

A job holds its model on instances of an endpoint of its own, which users do not see. It reads the
input object by object, and writes an output once all answers for its input are there. A job of an
earlier emulator begins anew; its outputs are written over.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from emulator.aws.invocations.proxy import Invocations
from emulator.aws.invocations.replies import Refusal
from emulator.aws.invocations.request import Invocation, Kind
from emulator.aws.services.endpoints import Endpoints, read_sources
from emulator.aws.transforms.filters import DataProcessing, read_processing
from emulator.aws.transforms.records import BadInput, assembled, manifest, output_of, requests_of
from emulator.data.inputs.records import BadGzip, gunzip
from emulator.data.objectstore.failures import StoreError
from emulator.data.objectstore.listing import ObjectInfo
from emulator.model.errors import ApiError, ValidationError
from emulator.model.hosting import Endpoint, EndpointStatus, hidden_name
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri
from emulator.resources.transform import deployment_sources, transform_spec
from emulator.resources.transform.job import TransformSpec
from emulator.workloads.serving.store import ENDPOINT, TRANSFORM, HostingStore, Resource

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_LONGEST_ANSWER = 1 << 30
_NOT_YET = ("ServiceUnavailable",)
_THREADS = 8
ENDED = ("Completed", "Failed", "Stopped")

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Objects(Protocol):
    """Where inputs and outputs are. Every method raises StoreError."""

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]: ...

    def read(self, bucket: str, key: str) -> Iterator[bytes]: ...

    def upload(self, bucket: str, key: str, stream: io.BytesIO) -> None: ...


class TransformFailure(Exception):
    """Ends a job as Failed; `str(error)` is its FailureReason."""


class TransformJobs:
    """All of them. `submit` and `stop` may be called by any thread."""

    def __init__(
        self,
        store: HostingStore,
        engine: Endpoints,
        objects: Objects,
        clock: Callable[[], float] = time.time,
    ):
        self._store = store
        self._engine = engine
        self._objects = objects
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._invocations: Invocations | None = None
        self._tasks: dict[tuple[Scope, str], asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "transform")
        self._closing = False

    async def start(self, invocations: Invocations) -> None:
        """Go on with the jobs of an earlier emulator."""
        self._loop, self._invocations = asyncio.get_running_loop(), invocations
        for row in await self._blocking(self._store.all, TRANSFORM):
            if row.status not in ENDED:
                self._begin(row.scope, row.name)
            else:
                await self._blocking(self._release, row.scope, row.name)

    async def close(self) -> None:
        """Jobs that have not ended go on with the next emulator."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False)

    def submit(self, row: Resource) -> None:
        """Keep a new job and begin with it. Raises ApiError."""
        if self._loop is None:
            raise ApiError("The emulator is starting.", code="ServiceUnavailable", status=503)
        self._store.create(row)
        self._loop.call_soon_threadsafe(self._begin, row.scope, row.name)

    def stop(self, scope: Scope, name: str) -> None:
        """Raises ValidationError for a job that has ended."""

        def step(row: Resource) -> Resource:
            if row.status in ENDED:
                raise ValidationError(
                    f"The request was rejected because the transform job is in status {row.status}."
                )
            return replace(row, status="Stopping", modified=self._clock())

        self._store.update(TRANSFORM, scope, name, step)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, scope, name)

    def _begin(self, scope: Scope, name: str) -> None:
        assert self._loop is not None  # noqa: S101 - it runs there
        task = self._loop.create_task(self._run(scope, name))
        self._tasks[scope, name] = task
        task.add_done_callback(lambda done: self._over(done, scope, name))

    def _over(self, task: asyncio.Task[None], scope: Scope, name: str) -> None:
        self._tasks.pop((scope, name), None)
        if task.cancelled() and not self._closing:
            self._begin(scope, name)  # it was stopped before it could see that

    def _cancel(self, scope: Scope, name: str) -> None:
        if task := self._tasks.get((scope, name)):
            task.cancel()

    async def _run(self, scope: Scope, name: str) -> None:
        status, reason = "Completed", None
        try:
            row = await self._blocking(self._store.get, TRANSFORM, scope, name)
            if row.status != "Stopping":
                await self._carry_out(row)
            else:
                status = "Stopped"
        except asyncio.CancelledError:
            row = await self._blocking(self._store.get, TRANSFORM, scope, name)
            if row.status != "Stopping":
                raise  # the emulator ends
            status = "Stopped"
        except TransformFailure as failure:
            status, reason = "Failed", str(failure)
        except Exception as error:  # the top of a task: nobody else would end the job
            log.exception("transform job %s fails", name)
            status, reason = "Failed", f"InternalServerError: {error}"
        now = self._clock()
        await self._blocking(
            self._store.update,
            TRANSFORM,
            scope,
            name,
            lambda each: replace(
                each,
                status=status,
                modified=now,
                state={**each.state, "ended": now, "reason": reason and reason[:1024]},
            ),
        )
        await self._blocking(self._release, scope, name)

    async def _carry_out(self, row: Resource) -> None:
        """Raises TransformFailure."""
        spec = transform_spec(row.request)
        prefix, keys = await self._blocking(self._inputs, spec)
        await self._instances(row)
        now = self._clock()
        await self._blocking(
            self._store.update,
            TRANSFORM,
            row.scope,
            row.name,
            lambda each: replace(each, state={**each.state, "started": now}),
        )
        count = row.request["TransformResources"]["InstanceCount"]
        slots = asyncio.Semaphore(spec.concurrent * count)
        for key in keys:
            await self._transform(row, spec, S3Uri(prefix.bucket, key), prefix.key, slots)

    def _inputs(self, spec: TransformSpec) -> tuple[S3Uri, list[str]]:
        """The prefix and the keys of the input objects; raises TransformFailure."""
        try:
            prefix = spec.source
            if spec.is_manifest:
                prefix, names = manifest(b"".join(self._objects.read(prefix.bucket, prefix.key)))
                # The names continue the prefix, whether or not it ends with a slash.
                return prefix, [prefix.key + name for name in names]
            listed = self._objects.list(prefix.bucket, prefix.key)
            keys = sorted(each.key for each in listed if not each.key.endswith("/"))
        except BadInput as error:
            raise TransformFailure(f"ClientError: {spec.source}: {error}") from error
        except StoreError as error:
            raise TransformFailure(f"ClientError: {spec.source}: {error}") from error
        if not keys:
            raise TransformFailure(
                f'ClientError: No S3 objects found under S3 URL "{spec.source}" given in input '
                "data source. Please ensure that the bucket exists in the selected region, that "
                "objects exist under that S3 prefix."
            )
        return prefix, keys

    async def _instances(self, row: Resource) -> None:
        """Wait until the model is loaded; raises TransformFailure."""
        name = hidden_name(row.name)
        if await self._blocking(self._store.endpoint, row.scope, name) is None:
            await self._blocking(self._engine.create, _endpoint(row, self._clock()))
        while True:
            endpoint = await self._blocking(self._store.endpoint, row.scope, name)
            if endpoint is None or endpoint.status is EndpointStatus.FAILED:
                reason = endpoint.failure_reason if endpoint else "its instances are gone"
                raise TransformFailure(f"ClientError: {reason}")
            if endpoint.status is EndpointStatus.IN_SERVICE:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _transform(
        self,
        row: Resource,
        spec: TransformSpec,
        source: S3Uri,
        prefix: str,
        slots: asyncio.Semaphore,
    ) -> None:
        """One object; raises TransformFailure."""
        try:
            bodies = await self._blocking(self._bodies, spec, source)
        except (BadInput, BadGzip, StoreError) as error:
            raise TransformFailure(f"ClientError: {source}: {error}") from error

        processing = processing_of(row.request)

        async def ask(body: bytes) -> bytes:
            async with slots:
                if processing is None:
                    return await self._answer(row, spec, body)
                try:
                    answer = await self._answer(row, spec, processing.request(body))
                    return processing.answer(body, answer)
                except BadInput as error:
                    raise TransformFailure(f"ClientError: {source}: {error}") from error

        tasks = [asyncio.ensure_future(ask(body)) for body in bodies]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        target = output_of(source.key, spec, prefix)
        content = io.BytesIO(assembled(answers, spec))
        try:
            await self._blocking(self._objects.upload, target.bucket, target.key, content)
        except StoreError as error:
            raise TransformFailure(f"ClientError: {target}: {error}") from error

    def _bodies(self, spec: TransformSpec, source: S3Uri) -> list[bytes]:
        pieces = self._objects.read(source.bucket, source.key)
        content = b"".join(gunzip(pieces) if spec.gzip else pieces)
        return list(requests_of(content, spec))

    async def _answer(self, row: Resource, spec: TransformSpec, body: bytes) -> bytes:
        """Raises TransformFailure."""
        assert self._invocations is not None  # noqa: S101 - it was started
        call = Invocation(
            kind=Kind.INVOKE,
            endpoint=hidden_name(row.name),
            content_type=spec.content_type.encode() if spec.content_type else None,
            accept=spec.accept.encode() if spec.accept else None,
            passed=[],
            headers={},
        )
        failed = 0
        while True:
            try:
                way = self._invocations.way(row.scope, call.endpoint)
                answer = await way.invoke(call, body, spec.seconds, _LONGEST_ANSWER)
            except Refusal as refusal:
                if refusal.code not in _NOT_YET:
                    failed += 1
                status = refusal.members.get("OriginalStatusCode", refusal.status)
                # What is wrong with the request does not pass.
                lasts = 400 <= status < 500 and status not in (408, 429)
                if failed and (lasts or failed > spec.retries):
                    kind = "ClientError" if 400 <= status < 500 else "AlgorithmError"
                    raise TransformFailure(
                        f"{kind}: See job logs for more information. {refusal.message}"
                    ) from refusal
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return answer.body

    def _release(self, scope: Scope, name: str) -> None:
        """End the instances of a job that has ended."""
        hidden = hidden_name(name)
        if self._store.find(ENDPOINT, scope, hidden) is not None:
            try:
                self._engine.delete(scope, hidden)
            except ApiError as error:
                log.warning("the instances of transform job %s do not end: %s", name, error)

    async def _blocking(self, function: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def processing_of(request: Mapping[str, Any]) -> DataProcessing | None:
    """What a CreateTransformJob request does with records; raises ValueError."""
    return read_processing(
        request.get("DataProcessing", {}),
        request["TransformInput"].get("ContentType"),
        request["TransformOutput"].get("Accept"),
    )


def _endpoint(row: Resource, now: float) -> Endpoint:
    return Endpoint(
        scope=row.scope,
        name=hidden_name(row.name),
        status=EndpointStatus.CREATING,
        created=now,
        modified=now,
        request={"EndpointConfigName": row.name},
        pending=read_sources(deployment_sources(row.request, row.state["model"])),
        pending_since=now,
    )
