"""Every AWS service but S3: a request's life from bytes to bytes, read from top to bottom."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from botocore.model import ServiceModel
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from emulator.aws.accounts import account_of
from emulator.aws.control import Disturb, internal_failure
from emulator.aws.invocations.request import PREFIX as INVOCATIONS
from emulator.aws.operation import Call, Handler, Operations
from emulator.aws.routing import service_of
from emulator.aws.signatures import Signer, signer_of
from emulator.aws.validation.validate import validate
from emulator.aws.wire.compression import unpacked
from emulator.aws.wire.http import HttpReply, HttpRequest
from emulator.aws.wire.json_reading import SerializationError
from emulator.aws.wire.protocols import WireProtocol, error_protocol_of, protocol_of
from emulator.aws.wire.service_models import Operation, operation_model, service_model
from emulator.model.errors import ApiError, NotBuilt, disk_full
from emulator.model.scope import Scope
from emulator.settings import Settings

log = logging.getLogger(__name__)

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes; the largest request of a service other than S3 is far below (PutLogEvents: 1 MiB)."""

THREADS = 32
"""Operations that are carried out at once."""

_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

# Logs calls a broken constraint by a name of its own (API reference); CloudWatch keeps the
# query protocol's in all its protocols.
_VALIDATION_CODES = {"logs": "InvalidParameterException", "cloudwatch": "ValidationError"}


class Gateway:
    """The ASGI application that AWS clients talk to; mount it below everything else."""

    def __init__(
        self,
        services: Mapping[str, Operations],
        settings: Settings,
        disturb: Disturb = lambda _: None,
        has_instance_type: Callable[[str], bool] = lambda _: False,
    ):
        """`services` holds the operations by the service's botocore name.

        `disturb` may raise an error instead of an operation; `has_instance_type` knows types
        that only exist here.
        """
        self._services = services
        self._disturb = disturb
        self._has_instance_type = has_instance_type
        self._account = settings.account
        self._region = settings.region
        self._state_dir = settings.state_dir
        self._threads = ThreadPoolExecutor(THREADS, "operation")
        for name in services:  # reading a model takes a moment: not at the first request
            service_model(name)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = _head(scope)
        signer = signer_of(request.headers, request.query)
        try:
            body = await _read(receive)
        except ConnectionResetError:
            return
        request = HttpRequest(request.method, request.path, request.query, request.headers, body)
        if len(body) > BODY_LIMIT:
            reply = _error(_too_large(), error_protocol_of(request), str(uuid4()))
        else:
            # Handlers block on the database and the disk.
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._threads, self.answer, request, signer)
        await _send(reply, send)

    def carry_out(
        self, service: str, operation: str, params: Mapping[str, Any], scope: Scope
    ) -> Mapping[str, Any]:
        """One operation as if a client of that scope had asked for it. Raises ApiError."""
        model = self._model(service)
        found = operation_model(model, operation)
        handler = self._services[service].get(operation)
        if found is None or handler is None:
            raise NotBuilt(f"{operation} is not built into sagemaker-emulator yet.")
        validate(found.input_shape, params, "ValidationException", self._has_instance_type)
        return handler(Call(scope, params)) or {}

    def answer(self, request: HttpRequest, signer: Signer | None) -> HttpReply:
        """Carry out one request of any service but S3; never raises."""
        request_id = str(uuid4())
        protocol = error_protocol_of(request)
        try:
            request = unpacked(request, BODY_LIMIT)
            name = service_of(request, signer, self._services)
            model = self._model(name)
            protocol = protocol_of(request, model)
            operation, handler = self._operation(name, model, protocol, request)
            self._disturb(operation.name)
            params = protocol.parse(request, operation)
            code = _VALIDATION_CODES.get(name, protocol.validation_code)
            validate(operation.input_shape, params, code, self._has_instance_type)
            result = handler(self._call(params, signer)) or {}
            body = protocol.serialize(operation, result, request_id)
            return _reply(200, body, protocol, request_id)
        except ApiError as error:
            if error.hint:
                log.warning("A request was refused: %s", error.hint)
            return _error(error, protocol, request_id)
        except RecursionError:  # expressions of Search can hold each other
            return _error(
                SerializationError("The request is nested too deeply."), protocol, request_id
            )
        except Exception as error:  # the top of a worker thread: nobody else would answer
            if full := disk_full(error, str(self._state_dir)):
                log.warning("A request was refused: %s", full)
                return _error(_no_space(self._state_dir), protocol, request_id)
            log.exception("%s %s failed", request.method, request.headers.get("x-amz-target", ""))
            return _error(internal_failure(), protocol, request_id)

    def _model(self, service: str) -> ServiceModel:
        model = service_model(service) if service in self._services else None
        if model is None:
            raise NotBuilt(f"The service {service} is not built into sagemaker-emulator yet.")
        return model

    def _operation(
        self, service: str, model: ServiceModel, protocol: WireProtocol, request: HttpRequest
    ) -> tuple[Operation, Handler]:
        name = protocol.operation_name(request)
        operation = operation_model(model, name)
        if operation is None:
            raise protocol.unknown_operation(name)
        handler = self._services[service].get(name)
        if handler is None:
            raise NotBuilt(f"{name} is not built into sagemaker-emulator yet.")
        return operation, handler

    def _call(self, params: Mapping[str, Any], signer: Signer | None) -> Call:
        region = (signer.region if signer else "") or self._region
        if not _REGION.fullmatch(region):  # it becomes the name of a directory, for one thing
            raise ApiError(
                "Credential should be scoped to a valid region.", code="InvalidSignatureException"
            )
        access_key = signer.access_key if signer else ""
        return Call(Scope(account_of(access_key, self._account), region), params, access_key)


def _too_large() -> ApiError:
    return ApiError("Request size is too large.", code="RequestEntityTooLarge", status=413)


def _no_space(state_dir: Path) -> ApiError:
    """SDKs send the request again: there may be room by then."""
    return ApiError(
        f"The disk of the emulator's state directory {state_dir} is full. Free some space on it; "
        "`sagemaker-emulator doctor` lists what ended jobs have left, with sizes.",
        code="ServiceUnavailable",
        status=503,
    )


def _error(error: ApiError, protocol: WireProtocol, request_id: str) -> HttpReply:
    body = protocol.serialize_error(error, request_id)
    return _reply(error.status, body, protocol, request_id)


def _reply(status: int, body: bytes, protocol: WireProtocol, request_id: str) -> HttpReply:
    headers = {"content-type": protocol.content_type, "x-amzn-requestid": request_id}
    return HttpReply(status, body, headers)


def _head(scope: AsgiScope) -> HttpRequest:
    return HttpRequest(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers={n.decode("latin-1").lower(): v.decode("latin-1") for n, v in scope["headers"]},
    )


async def _read(receive: Receive) -> bytes:
    """The body, kept until it is longer than BODY_LIMIT; raises ConnectionResetError."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        more = message.get("more_body", False)
        if len(body) <= BODY_LIMIT:
            body += message.get("body", b"")
    return bytes(body)


async def _send(reply: HttpReply, send: Send) -> None:
    headers = {**reply.headers, "content-length": str(len(reply.body))}
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})


class Shortcut:
    """Hands requests that an AWS client has signed straight to whom they are for.

    An ASGI application around a larger one, whose routing they would only be delayed by.
    """

    def __init__(self, app: ASGIApp, gateway: ASGIApp, invocations: ASGIApp):
        self._app = app
        self._gateway = gateway
        self._invocations = invocations

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            if scope["raw_path"].startswith(INVOCATIONS):
                app = self._invocations
            elif any(
                name == b"authorization" and value.startswith(b"AWS4-")
                for name, value in scope["headers"]
            ):
                app = self._gateway
        await app(scope, receive, send)
