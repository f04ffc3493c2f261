"""The runtime as an ASGI application: a request in, an instance's answer out."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol
from uuid import uuid4

from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from emulator.aws.accounts import account_of
from emulator.aws.invocations import event_stream, replies
from emulator.aws.invocations.container_http import (
    AnswerTimeout,
    ConnectionBroken,
    ContainerConnection,
    Headers,
)
from emulator.aws.invocations.instances import Instances, Lent, NoInstance, Silent
from emulator.aws.invocations.metrics import InvocationMetrics
from emulator.aws.invocations.multi_model import LABEL, MultiModels
from emulator.aws.invocations.replies import ModelErrors, Refusal
from emulator.aws.invocations.request import (
    CLOSED_SESSION,
    CUSTOM_ATTRIBUTES,
    NEW_SESSION,
    Invocation,
    Kind,
    read_invocation,
    request_head,
)
from emulator.aws.signatures import signer_of
from emulator.model.errors import ApiError
from emulator.model.hosting import Deployment, VariantSpec, is_hidden
from emulator.model.scope import Scope
from emulator.settings import Settings
from emulator.workloads.serving.routes import (
    Route,
    RoutedVariant,
    Routes,
    Table,
    Target,
    pick_variant,
)

log = logging.getLogger(__name__)

_DEFAULT_TYPE = b"application/octet-stream"
_PRIMARY = "primary"
_PATH = b"/invocations"
_DIALERS = 32


@dataclass(frozen=True)
class Limits:
    """What the runtime allows; bytes and seconds."""

    body: int = 25 * 1024 * 1024
    answer: int = 25 * 1024 * 1024
    seconds: float = 60.0
    stream_seconds: float = 480.0
    wait_seconds: float = 60.0
    """For an instance, where there is none or all are being replaced."""


@dataclass(frozen=True)
class Answer:
    """A whole answer of a model."""

    variant: str
    content_type: bytes
    headers: Headers
    body: bytes


class Observer(Protocol):
    """Who gets to know of answered requests, to capture them."""

    def answered(
        self, scope: Scope, deployment: Deployment, call: Invocation, body: bytes, answer: Answer
    ) -> None: ...


class Queue(Protocol):
    """Who takes the requests of asynchronous endpoints."""

    async def accept(
        self, scope: Scope, deployment: Deployment, call: Invocation, body: bytes
    ) -> tuple[bytes, Headers]:
        """The answer's body and headers. Raises Refusal."""
        ...


class Invocations:
    """Requests to all endpoints. `start` and everything else belong to one event loop."""

    def __init__(
        self,
        routes: Routes,
        settings: Settings,
        metrics: InvocationMetrics,
        disturb: Callable[[str], None] = lambda _: None,
        limits: Limits | None = None,
        observers: Sequence[Observer] = (),
        queue: Queue | None = None,
    ):
        """`disturb` may raise an ApiError instead of an operation."""
        self._routes = routes
        self._settings = settings
        self._metrics = metrics
        self._disturb = disturb
        self._limits = limits or Limits()
        self._observers = observers
        self._queue = queue
        self._ways: dict[Route, _Way] = {}
        self._blocking = ThreadPoolExecutor(_DIALERS, "instances")
        self._shadows: set[asyncio.Task[None]] = set()

    # ASGI

    async def __call__(self, asgi: AsgiScope, receive: Receive, send: Send) -> None:
        headers: Headers = asgi["headers"]
        try:
            call = self._read(asgi, headers)
            scope = self._scope(headers, asgi["query_string"])
            body = await _body(receive, self._limits.body)
            if body is None:
                raise replies.too_large(self._limits.body)
            self._disturb(call.kind.value)
            await self._serve(scope, call, body, receive, send)
        except Refusal as refusal:
            await _reply(send, refusal.status, refusal.headers, refusal.body)
        except ApiError as error:
            told = Refusal(error.status, error.code, {"Message": error.message})
            await _reply(send, told.status, told.headers, told.body)
        except ConnectionResetError:
            return  # the client is gone

    def _read(self, asgi: AsgiScope, headers: Headers) -> Invocation:
        call = read_invocation(asgi["raw_path"], headers)
        if call is None or asgi["method"] != "POST":
            raise Refusal(404, "UnknownOperationException", {})
        return call

    def _scope(self, headers: Headers, query: bytes) -> Scope:
        named = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name == b"authorization"
        }
        signer = signer_of(named, query.decode("latin-1"))
        region = (signer.region if signer else "") or self._settings.region
        access_key = signer.access_key if signer else ""
        return Scope(account_of(access_key, self._settings.account), region)

    async def _serve(
        self, scope: Scope, call: Invocation, body: bytes, receive: Receive, send: Send
    ) -> None:
        way = self.way(scope, call.endpoint)
        deployment = way.deployment
        if call.kind is Kind.ASYNC:
            if deployment.queue is None or self._queue is None:
                raise replies.invalid(
                    f"Endpoint {call.endpoint} is not an asynchronous endpoint: its configuration "
                    "has no AsyncInferenceConfig."
                )
            answer, headers = await self._queue.accept(scope, deployment, call, body)
            await _reply(send, 202, [(b"content-type", b"application/json"), *headers], answer)
            return
        if deployment.queue is not None:
            raise replies.invalid(
                f"Endpoint {call.endpoint} is an asynchronous endpoint and takes only "
                "InvokeEndpointAsync."
            )
        if call.kind is Kind.STREAM:
            await way.stream(call, body, receive, send)
            return
        answer_ = await way.invoke(call, body)
        head = [(b"content-type", answer_.content_type), *answer_.headers]
        await _reply(send, 200, head, answer_.body)
        for observer in self._observers:
            observer.answered(scope, deployment, call, body, answer_)
        self._shadow(way, call, body)

    def way(self, scope: Scope, name: str) -> _Way:
        """The way to an endpoint that serves; raises Refusal."""
        route = self._routes.find(scope, name)
        if route is None or route.table is None:
            raise replies.no_endpoint(scope, name)
        way = self._ways.get(route)
        if way is None:
            way = self._ways[route] = _Way(route, self._blocking, self._metrics, self._limits)
            for gone in [each for each in self._ways if not self._is_open(each)]:
                self._ways.pop(gone).close()
        return way

    def targets(self, scope: Scope, name: str) -> tuple[Target, ...]:
        """The instances of an endpoint's first variant that serve now."""
        route = self._routes.find(scope, name)
        table = route.table if route else None
        return table.variants[0].targets if table else ()

    def _is_open(self, route: Route) -> bool:
        return self._routes.find(route.scope, route.name) is route

    def _shadow(self, way: _Way, call: Invocation, body: bytes) -> None:
        """Copies for shadow variants, whose answers nobody gets."""
        for name in way.shadows(random.random()):  # noqa: S311 - a share
            task = asyncio.get_running_loop().create_task(way.shadow(name, call, body))
            self._shadows.add(task)
            task.add_done_callback(self._shadows.discard)


class _Way:
    """Requests to one endpoint."""

    def __init__(
        self,
        route: Route,
        blocking: ThreadPoolExecutor,
        metrics: InvocationMetrics,
        limits: Limits,
    ):
        self._route = route
        self._scope = route.scope
        self._errors = ModelErrors(route.scope, route.name)
        self._gone = replies.no_endpoint(route.scope, route.name)
        self._instances = Instances(route, blocking, self._gone)
        self._models = MultiModels(self._instances, self._errors, blocking)
        self._metrics = metrics
        self._limits = limits
        self._open: dict[str, int] = {}
        """Requests by serverless variant."""

    @property
    def deployment(self) -> Deployment:
        table = self._route.table
        if table is None:
            raise self._gone
        return table.deployment

    def close(self) -> None:
        self._instances.close()

    async def invoke(
        self,
        call: Invocation,
        body: bytes,
        seconds: float | None = None,
        longest: int | None = None,
    ) -> Answer:
        """The whole answer, in `seconds` and of at most `longest` bytes, else as the limits say.

        Raises Refusal.
        """
        limits = replace(
            self._limits,
            seconds=seconds or self._limits.seconds,
            answer=longest or self._limits.answer,
        )
        return await self._counted(lambda table: _variant(table, call), call, body, limits)

    async def _counted(
        self,
        choose: Callable[[Table], RoutedVariant],
        call: Invocation,
        body: bytes,
        limits: Limits,
    ) -> Answer:
        exchange = _Exchange(self, call, body, limits, choose)
        try:
            async with exchange as (connection, container):
                content = await exchange.rest(connection, container)
                return Answer(
                    exchange.variant_name,
                    connection.header(b"content-type") or _DEFAULT_TYPE,
                    exchange.answer_headers(connection),
                    content,
                )
        finally:
            exchange.count()

    async def stream(self, call: Invocation, body: bytes, receive: Receive, send: Send) -> None:
        """The answer as an event stream, each part as it comes. Raises Refusal before it begins."""
        limits = replace(self._limits, seconds=self._limits.stream_seconds)
        exchange = _Exchange(self, call, body, limits, lambda table: _variant(table, call))
        try:
            async with exchange as (connection, container):
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [
                            (b"content-type", event_stream.CONTENT_TYPE),
                            (
                                b"x-amzn-sagemaker-content-type",
                                connection.header(b"content-type") or _DEFAULT_TYPE,
                            ),
                            *exchange.answer_headers(connection),
                            _request_id(),
                        ],
                    }
                )
                gone = asyncio.create_task(_until_gone(receive, connection))
                try:
                    await exchange.parts(connection, container, send)
                finally:
                    gone.cancel()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            exchange.count()

    def shadows(self, draw: float) -> list[str]:
        """Shadow variants that get a copy: as many requests as their weights say."""
        table = self._route.table
        if table is None or not table.shadows:
            return []
        weight = sum(each.spec.weight for each in table.variants)
        return [
            each.spec.name for each in table.shadows if weight and draw < each.spec.weight / weight
        ]

    async def shadow(self, name: str, call: Invocation, body: bytes) -> None:
        """Send a copy to a shadow variant."""

        def choose(table: Table) -> RoutedVariant:
            for each in table.shadows:
                if each.spec.name == name:
                    return each
            raise self._gone

        with suppress(Refusal):
            await self._counted(choose, call, body, self._limits)


class _Exchange:
    """One request on its way through an instance, and what is counted of it."""

    def __init__(
        self,
        way: _Way,
        call: Invocation,
        body: bytes,
        limits: Limits,
        choose: Callable[[Table], RoutedVariant],
    ):
        self._way = way
        self._call = call
        self._body = body
        self._limits = limits
        self._choose = choose
        self._began = self._sent = self._ended = perf_counter()
        self._lent: Lent[ContainerConnection] | None = None
        self._variant: RoutedVariant | None = None
        self._entered: str | None = None
        self._container = 0
        self._label = _PRIMARY
        self._status = 0

    @property
    def variant_name(self) -> str:
        assert self._variant is not None  # noqa: S101 - asked for after it was chosen
        spec = self._variant.spec
        return spec.component_of or spec.name

    async def __aenter__(self) -> tuple[ContainerConnection, str]:
        """The connection on which the last container's answer comes, and what errors call it."""
        way = self._way
        try:
            self._lent = await way._instances.with_one(
                self._chosen, self._attempt, self._call.session, self._limits.wait_seconds
            )
        except NoInstance:
            raise self._no_instance() from None
        except Silent:
            raise way._errors.broken(self._label) from None
        except AnswerTimeout:
            raise way._errors.timed_out(self._label) from None
        except ConnectionBroken:
            raise way._errors.unreadable(self._label) from None
        finally:
            self._ended = perf_counter()
        connection = self._lent.result
        try:
            if not 200 <= connection.status < 300:
                content = await self.rest(connection, self._label)
                raise way._errors.answered(self._label, connection.status, content)
        except BaseException:
            self._release()
            raise
        return connection, self._label

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._ended = perf_counter()
        if self._lent is not None:
            lent, self._lent = self._lent, None
            lent.target.leave()
            self._way._instances.give_back(lent.target, self._container, lent.result)

    def _no_instance(self) -> Refusal:
        spec = self._variant.spec if self._variant else None
        if spec and spec.component_of:
            return replies.no_capacity()
        if spec and spec.serverless:
            return replies.not_ready(spec.model or spec.name)
        return replies.unavailable(self._call.endpoint)

    def _chosen(self, table: Table) -> RoutedVariant:
        variant = self._choose(table)
        spec = variant.spec
        if spec.serverless and self._entered is None:
            open_ = self._way._open.get(spec.name, 0)
            if open_ >= spec.serverless.max_concurrency:
                raise replies.throttled()
            self._way._open[spec.name] = open_ + 1
            self._entered = spec.name
        self._variant = variant
        return variant

    async def _attempt(self, variant: RoutedVariant, target: Target) -> ContainerConnection:
        """The request through all containers of an instance, up to the last one's head."""
        spec, call = variant.spec, self._call
        self._sent = perf_counter()
        chain = _containers(spec, call)
        content_type, body = call.content_type, self._body
        for number, container in enumerate(chain):
            self._container, self._label = container, _label(spec, container)
            connection = await self._ask(target, spec, container, content_type, body)
            self._status = connection.status
            if number == len(chain) - 1 or not 200 <= connection.status < 300:
                return connection
            try:
                body = await self.rest(connection, self._label)
                content_type = connection.header(b"content-type")
            finally:
                self._way._instances.give_back(target, container, connection)
        raise AssertionError("a variant has containers")

    async def _ask(
        self,
        target: Target,
        spec: VariantSpec,
        container: int,
        content_type: bytes | None,
        body: bytes,
    ) -> ContainerConnection:
        call, path = self._call, _PATH
        model = call.model if spec.containers[container].models is not None else None
        if spec.containers[container].models is not None and model is None:
            raise replies.invalid(
                "TargetModel is required: the model of this endpoint is a multi-model container."
            )
        for last in (False, True):
            if model is not None:
                path = await self._way._models.path(target, container, model)
            head = request_head(path, content_type, call.accept, call.passed, len(body))
            connection = await self._way._instances.ask(
                target, container, head, body, self._limits.seconds
            )
            if model is None or connection.status != 404 or last:
                return connection
            # The container has unloaded it by itself.
            self._way._models.forget(target, container, model)
            self._way._instances.give_back(target, container, connection)
        raise AssertionError("the second answer is returned")

    async def rest(self, connection: ContainerConnection, label: str) -> bytes:
        """The rest of an answer; raises Refusal."""
        errors, limit = self._way._errors, self._limits.answer
        try:
            piece = await connection.read()
            pieces, size = [piece], len(piece)
            while piece:
                piece = await connection.read()
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    self._status = 500
                    raise errors.unreadable(label)
        except AnswerTimeout:
            self._status = 0
            raise errors.timed_out(label) from None
        except ConnectionBroken:
            self._status = 500
            raise errors.unreadable(label) from None
        return pieces[0] if len(pieces) <= 2 else b"".join(pieces)

    async def parts(self, connection: ContainerConnection, label: str, send: Send) -> None:
        """Send the rest of an answer as it comes, and an error if it does not end."""
        try:
            while piece := await connection.read():
                frame = event_stream.part(piece)
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        except ConnectionBroken as error:
            self._status = 0
            told = replies.stream_broken(label)
            if isinstance(error, AnswerTimeout):
                told = replies.stream_timed_out(label)
            frame = event_stream.exception("ModelStreamError", told)
            await send({"type": "http.response.body", "body": frame, "more_body": True})

    def answer_headers(self, connection: ContainerConnection) -> Headers:
        """What the client gets of the container's headers; sessions are noted."""
        headers = [(b"x-amzn-invoked-production-variant", self.variant_name.encode())]
        for name, value in connection.headers:
            if name in (CUSTOM_ATTRIBUTES, NEW_SESSION, CLOSED_SESSION):
                headers.append((name, value))
                session = value.partition(b";")[0].strip().decode("latin-1")
                if name == NEW_SESSION and self._lent is not None:
                    self._way._instances.remember(session, self._lent.target)
                elif name == CLOSED_SESSION:
                    self._way._instances.forget_session(session)
        return headers

    def count(self) -> None:
        """The request is over."""
        if self._entered is not None:
            self._way._open[self._entered] -= 1
        if self._variant is not None and not is_hidden(self._call.endpoint):
            now = perf_counter()
            self._way._metrics.invoked(
                (self._way._scope, self._call.endpoint, self.variant_name),
                len(self._variant.targets),
                self._status,
                self._ended - self._sent,
                now - self._began,
            )


def _variant(table: Table, call: Invocation) -> RoutedVariant:
    """The variant that a request is for; raises Refusal."""
    if call.component is not None:
        for each in table.variants:
            if each.spec.component_of and each.spec.name == call.component:
                if each.spec.count == 0:
                    raise replies.no_capacity()
                return each
        raise replies.invalid(f'Could not find inference component "{call.component}".')
    plain = [each for each in table.variants if each.spec.component_of is None]
    if any(not each.spec.containers for each in plain):
        raise replies.component_missing()
    if call.variant is not None:
        for each in plain:
            if each.spec.name == call.variant:
                return each
        raise replies.invalid(f"Variant {call.variant} of endpoint {call.endpoint} was not found.")
    chosen = plain[0] if len(plain) == 1 and plain[0].spec.weight else pick_variant(plain)
    if chosen is None:
        raise replies.invalid(f"All variants of endpoint {call.endpoint} have the weight 0.")
    return chosen


def _containers(spec: VariantSpec, call: Invocation) -> Sequence[int]:
    """The containers that a request goes through, by their places; raises Refusal."""
    if call.container is None:
        if spec.direct:
            raise replies.invalid(
                "TargetContainerHostname is required: the inference execution mode of the model "
                "is Direct."
            )
        return range(len(spec.containers))
    if not spec.direct:
        raise replies.invalid(
            "TargetContainerHostname can only be used where the inference execution mode of the "
            "model is Direct."
        )
    for number, container in enumerate(spec.containers):
        if container.hostname == call.container:
            return (number,)
    raise replies.invalid(f"Container {call.container} was not found.")


def _label(spec: VariantSpec, container: int) -> str:
    """What errors call a container."""
    if len(spec.containers) > 1:
        return spec.containers[container].hostname
    return _PRIMARY if spec.containers[container].models is None else LABEL


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The request's body; None where it has more bytes than that.

    Raises ConnectionResetError where the client is gone.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body if len(body) <= limit else None
    pieces, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        piece = message.get("body", b"")
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces) if size <= limit else None
        message = await receive()


def _request_id() -> tuple[bytes, bytes]:
    return b"x-amzn-requestid", str(uuid4()).encode()


async def _reply(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", b"%d" % len(body))
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, length, _request_id()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _until_gone(receive: Receive, connection: ContainerConnection) -> None:
    """Give up the model's answer once the client does."""
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.close()
