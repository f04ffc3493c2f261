"""Transform jobs, each a task of the runtime's event loop.

A job holds its model on instances of an endpoint of its own, which users do not see. It reads the
input in order and a few requests ahead, whatever object they are of. Answers go in the same order
into a file, which is uploaded once all of an object are there. A job of an earlier emulator begins
anew; its outputs are written over.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from emulator.aws.invocations.proxy import Invocations
from emulator.aws.invocations.replies import Refusal
from emulator.aws.invocations.request import Invocation, Kind
from emulator.aws.services.endpoints import Endpoints, read_sources
from emulator.aws.transforms.filters import DataProcessing, read_processing
from emulator.aws.transforms.parameters import execution_parameters
from emulator.aws.transforms.records import BadInput, manifest, output_of, requests_of
from emulator.data.inputs.records import BadGzip, gunzip
from emulator.data.objectstore.failures import StoreError
from emulator.data.objectstore.listing import ObjectInfo
from emulator.model.errors import ApiError, ValidationError
from emulator.model.hosting import Endpoint, EndpointStatus, hidden_name, log_group
from emulator.model.scope import Scope
from emulator.model.workload import S3Uri
from emulator.resources.transform import deployment_sources, transform_spec
from emulator.resources.transform.job import TransformSpec, with_parameters
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.serving.routes import Target
from emulator.workloads.serving.store import ENDPOINT, TRANSFORM, HostingStore, Resource

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_RELEASE_POLL_SECONDS = 0.1
_RELEASE_SECONDS = 120.0
"""In which instances end: 30 seconds from SIGTERM to SIGKILL, and what is to be removed."""
_LONGEST_ANSWER = 1 << 30
_NOT_YET = ("ServiceUnavailable",)
_THREADS = 8
_AHEAD = 2
"""Requests that are read for each one that can be on its way."""
ENDED = ("Completed", "Failed", "Stopped")

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Objects(Protocol):
    """Where inputs and outputs are. Every method raises StoreError."""

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]: ...

    def read(self, bucket: str, key: str) -> Iterator[bytes]: ...

    def upload(self, bucket: str, key: str, stream: IO[bytes]) -> None:
        """All of a file, from its beginning."""
        ...

    def end(self) -> None:
        """Let what is under way end soon; raises nothing."""
        ...


class TransformFailure(Exception):
    """Ends a job as Failed; `str(error)` is its FailureReason."""


class _Failed(Exception):
    """The data of an object, or the container, is at fault; the details go into the data log."""

    def __init__(self, kind: str, source: S3Uri, details: str):
        super().__init__(details)
        self.kind = kind
        self.source = source
        self.details = details


@dataclass(frozen=True)
class _Job:
    row: Resource
    spec: TransformSpec
    processing: DataProcessing | None
    width: int
    """Requests at once to all instances."""
    instance: str
    """Whose data log it writes."""


@dataclass(frozen=True)
class _Sent:
    """A request in the order of the output; without one all those of the object come before."""

    source: S3Uri
    asking: asyncio.Future[bytes] | None


class TransformJobs:
    """All of them. `submit` and `stop` may be called by any thread."""

    def __init__(
        self,
        store: HostingStore,
        engine: Endpoints,
        objects: Objects,
        clock: Callable[[], float] = time.time,
        logs: LogStore | None = None,
        directory: Path | None = None,
    ):
        """`logs` get what becomes of requests; outputs are collected in `directory`."""
        self._logs = logs
        self._directory = directory
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
        self._objects.end()
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
        # A job that has ended holds no GPUs, and all lines of its containers can be read.
        await self._blocking(self._release, scope, name)
        await self._until_released(scope, name)
        await self._record_end(scope, name, status, reason)

    async def _until_released(self, scope: Scope, name: str) -> None:
        """Wait until nothing is left of the job's instances, but not for ever."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        while time.monotonic() < deadline:
            if await self._blocking(self._store.endpoint, scope, hidden_name(name)) is None:
                return
            await asyncio.sleep(_RELEASE_POLL_SECONDS)
        log.warning("the instances of transform job %s take long to end", name)

    async def _record_end(self, scope: Scope, name: str, status: str, reason: str | None) -> None:
        """Tried until the database takes it: a full disk must not leave the job without an end."""

        def step(row: Resource) -> Resource:
            now = self._clock()
            is_stopped = row.status == "Stopping" and status == "Completed"
            return replace(
                row,
                status="Stopped" if is_stopped else status,
                modified=now,
                state={**row.state, "ended": now, "reason": reason and reason[:1024]},
            )

        told = False
        while True:
            try:
                await self._blocking(self._store.update, TRANSFORM, scope, name, step)
                return
            except sqlite3.Error as error:
                if not told:
                    log.warning("the end of transform job %s is not recorded: %s", name, error)
                told = True
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _carry_out(self, row: Resource) -> None:
        """Raises TransformFailure."""
        spec = transform_spec(row.request)
        prefix, keys = await self._blocking(self._inputs, spec)
        target = await self._instances(row)
        said = await self._blocking(execution_parameters, partial(target.dial, 0))
        request = with_parameters(row.request, said)
        spec = transform_spec(request)
        now = self._clock()
        await self._blocking(
            self._store.update,
            TRANSFORM,
            row.scope,
            row.name,
            lambda each: replace(each, state={**each.state, "started": now}),
        )
        count = row.request["TransformResources"]["InstanceCount"]
        job = _Job(row, spec, processing_of(row.request), spec.concurrent * count, target.id)
        payload = (spec.payload or 0) >> 20
        several = request.get("BatchStrategy", "MultiRecord") == "MultiRecord"
        await self._note(
            job,
            f"MaxConcurrentTransforms={spec.concurrent}, MaxPayloadInMB={payload}, "
            f"BatchStrategy={'MULTI_RECORD' if several else 'SINGLE_RECORD'}",
        )
        try:
            await self._transform(job, [S3Uri(prefix.bucket, key) for key in keys], prefix.key)
        except _Failed as failure:
            for line in failure.details.splitlines():
                await self._note(job, f"{failure.source.bucket}/{failure.source.key}: {line}")
            raise TransformFailure(
                f"{failure.kind}: See job logs for more information. {failure.details}"
            ) from failure

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
        except (BadInput, StoreError) as error:
            raise TransformFailure(f"{_at_fault(error)}: {spec.source}: {error}") from error
        if not keys:
            raise TransformFailure(
                f'ClientError: No S3 objects found under S3 URL "{spec.source}" given in input '
                "data source. Please ensure that the bucket exists in the selected region, that "
                "objects exist under that S3 prefix."
            )
        return prefix, keys

    async def _instances(self, row: Resource) -> Target:
        """Wait until the model is loaded; gives an instance. Raises TransformFailure."""
        assert self._invocations is not None  # noqa: S101 - it was started
        name = hidden_name(row.name)
        while (found := await self._blocking(self._store.endpoint, row.scope, name)) is not None:
            if found.status is not EndpointStatus.DELETING:
                break
            await asyncio.sleep(_POLL_SECONDS)  # those of before a restart still end
        if found is None:
            making = asyncio.ensure_future(
                self._blocking(self._engine.create, _endpoint(row, self._clock()))
            )
            try:
                await asyncio.shield(making)
            except asyncio.CancelledError:
                # What is made in another thread comes all the same: whoever ends it must find it.
                await asyncio.gather(making, return_exceptions=True)
                raise
        while True:
            endpoint = await self._blocking(self._store.endpoint, row.scope, name)
            if endpoint is None or endpoint.status is EndpointStatus.FAILED:
                reason = endpoint.failure_reason if endpoint else "its instances are gone"
                raise TransformFailure(f"ClientError: {reason}")
            targets = self._invocations.targets(row.scope, name)
            if endpoint.status is EndpointStatus.IN_SERVICE and targets:
                return targets[0]
            await asyncio.sleep(_POLL_SECONDS)

    async def _transform(self, job: _Job, sources: Sequence[S3Uri], prefix: str) -> None:
        """All objects; raises _Failed and TransformFailure."""
        sent: deque[_Sent] = deque()
        slots = asyncio.Semaphore(job.width)
        try:
            with tempfile.TemporaryFile(dir=self._directory) as output:
                for source in sources:
                    async for body in self._bodies(job, source):
                        while len(sent) >= _AHEAD * job.width:
                            await self._settle(job, sent.popleft(), prefix, output)
                        asking = asyncio.ensure_future(self._ask(job, source, body, slots))
                        sent.append(_Sent(source, asking))
                    sent.append(_Sent(source, None))
                while sent:
                    await self._settle(job, sent.popleft(), prefix, output)
        finally:
            left = [each.asking for each in sent if each.asking is not None]
            for unanswered in left:
                unanswered.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _bodies(self, job: _Job, source: S3Uri) -> AsyncIterator[bytes]:
        """Requests for an object, read as they are asked for. Raises _Failed."""
        pieces = self._objects.read(source.bucket, source.key)
        bodies = requests_of(gunzip(pieces) if job.spec.gzip else pieces, job.spec)
        try:
            while (body := await self._blocking(next, bodies, None)) is not None:
                yield body
        except (BadInput, BadGzip, StoreError) as error:
            raise _Failed(_at_fault(error), source, str(error)) from error

    async def _ask(self, job: _Job, source: S3Uri, body: bytes, slots: asyncio.Semaphore) -> bytes:
        """What goes into the output for a request. Raises _Failed."""
        async with slots:
            if job.processing is None:
                return await self._answer(job, source, body)
            try:
                answer = await self._answer(job, source, job.processing.request(body))
                return job.processing.answer(body, answer)
            except BadInput as error:
                raise _Failed("ClientError", source, str(error)) from error

    async def _settle(self, job: _Job, sent: _Sent, prefix: str, output: IO[bytes]) -> None:
        """Take in what comes next in the output. Raises _Failed and TransformFailure."""
        if sent.asking is None:
            target = output_of(sent.source.key, job.spec, prefix)
            try:
                await self._blocking(self._upload, target, output)
            except StoreError as error:
                raise TransformFailure(f"{_at_fault(error)}: {target}: {error}") from error
            return
        try:
            answer = await sent.asking
        except asyncio.CancelledError:
            sent.asking.cancel()
            raise
        if job.spec.by_line and not answer.endswith(b"\n"):
            answer += b"\n"
        await self._blocking(output.write, answer)

    def _upload(self, target: S3Uri, output: IO[bytes]) -> None:
        """The output of one object, as a whole; then the file is empty again."""
        self._objects.upload(target.bucket, target.key, output)
        output.seek(0)
        output.truncate()

    async def _answer(self, job: _Job, source: S3Uri, body: bytes) -> bytes:
        """Raises _Failed."""
        assert self._invocations is not None  # noqa: S101 - it was started
        row, spec = job.row, job.spec
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
                    raise _Failed(kind, source, refusal.message) from refusal
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return answer.body

    async def _note(self, job: _Job, text: str) -> None:
        """A line of the data log, as the service begins it."""
        if self._logs is not None:
            await self._blocking(self._write, self._logs, job, text)

    def _write(self, logs: LogStore, job: _Job, text: str) -> None:
        now = self._clock()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = f"{moment}.{int(now * 1000) % 1000:03d}:[sagemaker logs]: {text}"
        group = log_group(hidden_name(job.row.name))
        try:
            writer = logs.writer(job.row.scope, group, f"{job.row.name}/{job.instance}/data-log")
            try:
                writer.write_all([line], int(now * 1000))
            finally:
                writer.close()
        except OSError as error:
            log.warning("transform job %s: a log line is lost: %s: %s", job.row.name, error, text)

    def _release(self, scope: Scope, name: str) -> None:
        """End the instances of a job that has ended."""
        hidden = hidden_name(name)
        if self._store.find(ENDPOINT, scope, hidden) is not None:
            try:
                self._engine.delete(scope, hidden)
            except (ApiError, sqlite3.Error) as error:
                log.warning("the instances of transform job %s do not end: %s", name, error)

    async def _blocking(self, function: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _at_fault(error: Exception) -> str:
    """How the FailureReason begins."""
    is_ours = isinstance(error, StoreError) and error.transient
    return "InternalServerError" if is_ours else "ClientError"


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
