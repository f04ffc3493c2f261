"""AWS JSON 1.0 and 1.1: the operation in `X-Amz-Target`, one JSON object each way.

A malformed body is told `SerializationException`, with no message at all when it is not JSON
(measured on services of AWS that share this protocol).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from botocore.model import ServiceModel

from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_reading import SerializationError, iso_to_epoch, reader_of
from emulator.aws.wire.json_writing import writer_of
from emulator.aws.wire.service_models import Operation
from emulator.model.errors import ApiError, UnknownOperation

__all__ = ["JsonProtocol", "SerializationError", "iso_to_epoch"]

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class JsonProtocol:
    """Reads and writes the messages of one service."""

    validation_code = "ValidationException"

    def __init__(self, service: ServiceModel, version: str):
        self._service = service
        self.content_type = f"application/x-amz-json-{version}"

    def operation_name(self, request: HttpRequest) -> str:
        """The name after the dot of X-Amz-Target; raises UnknownOperation."""
        prefix, _, name = request.headers.get("x-amz-target", "").rpartition(".")
        if prefix != self._service.metadata.get("targetPrefix"):
            raise UnknownOperation("")
        return name

    def unknown_operation(self, name: str) -> ApiError:  # noqa: ARG002
        """AWS names no operation here; its answer has no message (measured)."""
        return UnknownOperation("")

    def parse(self, request: HttpRequest, operation: Operation) -> dict[str, Any]:
        """The operation's parameters; raises SerializationError.

        Members that the model does not have are skipped, as AWS does (measured: `{"Foo": 1}`
        is answered with 200), so that clients newer than the service get through.
        """
        try:
            body = json.loads(request.body, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise SerializationError("") from None
        if isinstance(body, list):
            raise SerializationError("Start of list found where not expected")
        if not isinstance(body, dict):
            raise SerializationError("")
        if operation.input_shape is None:
            return {}
        parsed: dict[str, Any] = reader_of(operation.input_shape)(body)
        return parsed

    def serialize(
        self,
        operation: Operation,
        result: Mapping[str, Any],
        request_id: str,  # noqa: ARG002
    ) -> bytes:
        """Compact JSON; an operation without output shape answers 0 bytes (seen)."""
        if operation.output_shape is None:
            return b""
        write = writer_of(operation.output_shape)
        return _dump(write(result) if write else result)

    def serialize_error(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002
        """`{"__type": …, "message": …}`, the message's key spelled as the error's own model."""
        body = {"__type": error.code}
        if error.message:
            body[self._message_member(error.code)] = error.message
        return _dump(body)

    def _message_member(self, code: str) -> str:
        for shape in self._service.error_shapes:
            if shape.name == code:
                return "Message" if "Message" in shape.members else "message"
        return "message"


def _dump(document: Any) -> bytes:
    # A log line may hold half a surrogate pair, which no encoding can carry.
    return _encode(document).encode("utf-8", "replace")


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
