"""AWS JSON 1.0 and 1.1: the operation in `X-Amz-Target`, one JSON object each way.

What a malformed body is told was measured on services of AWS that share this protocol and
its parser (Athena, DynamoDB): `SerializationException` with the words below, or with no
message at all when the body is not JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NoReturn

from botocore.model import ServiceModel

from emulator.aws.service_models import Operation, Shape
from emulator.aws.wire import HttpRequest
from emulator.model.errors import ApiError, UnknownOperation

_FRACTION = re.compile(r"\.(\d+)")


class SerializationError(ApiError):
    """The body cannot be read as the operation's input."""

    code = "SerializationException"


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
        parsed: dict[str, Any] = _read(operation.input_shape, body)
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
        return _dump(_write(operation.output_shape, result))

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
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    # A log line may hold half a surrogate pair, which no encoding can carry.
    return text.encode("utf-8", "replace")


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


# --- reading -------------------------------------------------------------------------------


def _read(shape: Shape, value: Any) -> Any:
    return _READERS[shape.type_name](shape, value)


def _read_structure(shape: Shape, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        raise SerializationError("Start of list found where not expected")
    if not isinstance(value, dict):
        raise SerializationError("Expected null")
    # Documents of any form (a "document type") have no members to read by.
    if getattr(shape, "is_document_type", False):
        return value
    return {
        name: _read(member, value[key])
        for name, member in shape.members.items()
        if value.get(key := member.serialization.get("name", name)) is not None
    }


def _read_list(shape: Shape, value: Any) -> list[Any]:
    if isinstance(value, dict):
        raise SerializationError("Start of structure or map found where not expected.")
    if not isinstance(value, list):
        raise SerializationError("Expected list or null")
    return [None if item is None else _read(shape.member, item) for item in value]


def _read_map(shape: Shape, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        raise SerializationError("Start of list found where not expected")
    if not isinstance(value, dict):
        # Not measured: spelled like its list counterpart.
        raise SerializationError("Expected map or null")
    return {
        _read_string(shape.key, key): None if item is None else _read(shape.value, item)
        for key, item in value.items()
    }


def _read_string(_shape: Shape, value: Any) -> str:
    if not isinstance(value, str):
        raise _not_a("a String", value)
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        raise SerializationError("") from None
    return value


def _read_boolean(_shape: Shape, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _not_a("an Boolean", value)  # sic
    return value


def _read_integer(shape: Shape, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _not_a("a Long" if shape.type_name == "long" else "an Integer", value)
    try:
        return int(value)
    except OverflowError:  # 1e999 reads as infinity
        raise SerializationError("") from None


def _read_float(shape: Shape, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _not_a(f"a {shape.type_name.capitalize()}", value)
    try:
        return float(value)
    except OverflowError:
        raise SerializationError("") from None


def _read_timestamp(_shape: Shape, value: Any) -> float:
    """Epoch seconds, from a number or from ISO 8601 text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _not_a("a Timestamp", value)
    try:
        return iso_to_epoch(value) if isinstance(value, str) else _in_calendar(float(value))
    except (ValueError, OverflowError, OSError):
        raise _not_a("a Timestamp", value) from None


def _read_blob(_shape: Shape, value: Any) -> bytes:
    if not isinstance(value, str):
        raise _not_a("a Blob", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise SerializationError("") from None


_READERS: dict[str, Callable[[Shape, Any], Any]] = {
    "structure": _read_structure,
    "list": _read_list,
    "map": _read_map,
    "string": _read_string,
    "character": _read_string,
    "boolean": _read_boolean,
    "integer": _read_integer,
    "long": _read_integer,
    "float": _read_float,
    "double": _read_float,
    "timestamp": _read_timestamp,
    "blob": _read_blob,
}


def _not_a(wanted: str, value: Any) -> SerializationError:
    if isinstance(value, dict):
        return SerializationError("Start of structure or map found where not expected.")
    if isinstance(value, list):
        return SerializationError("Start of list found where not expected")
    tokens = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE"}
    token = f"{value}_VALUE".upper() if isinstance(value, bool) else tokens[type(value)]
    return SerializationError(f"{token} can not be converted to {wanted}")


def iso_to_epoch(text: str) -> float:
    """Epoch seconds of an ISO 8601 time, UTC unless it says otherwise; raises ValueError."""
    # Python 3.10 reads neither a Z nor a fraction of any other length than these six digits.
    text = _FRACTION.sub(lambda match: f".{match[1]:0<6.6}", text.strip())
    moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _in_calendar(seconds: float) -> float:
    datetime.fromtimestamp(seconds, timezone.utc)
    return seconds


# --- writing -------------------------------------------------------------------------------


def _write(shape: Shape, value: Any) -> Any:
    writer = _WRITERS.get(shape.type_name)
    return writer(shape, value) if writer else value


def _write_structure(shape: Shape, value: Mapping[str, Any]) -> dict[str, Any]:
    if getattr(shape, "is_document_type", False):
        return dict(value)
    return {
        member.serialization.get("name", name): _write(member, value[name])
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _write_list(shape: Shape, value: Any) -> list[Any]:
    return [_write(shape.member, item) for item in value]


def _write_map(shape: Shape, value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _write(shape.value, item) for key, item in value.items()}


def _write_timestamp(_shape: Shape, value: float | datetime) -> float:
    # Job times have milliseconds on the wire, no more (seen).
    return round(value.timestamp() if isinstance(value, datetime) else value, 3)


def _write_blob(_shape: Shape, value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


_WRITERS: dict[str, Callable[[Shape, Any], Any]] = {
    "structure": _write_structure,
    "list": _write_list,
    "map": _write_map,
    "timestamp": _write_timestamp,
    "blob": _write_blob,
}
