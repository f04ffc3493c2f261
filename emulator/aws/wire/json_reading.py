"""AWS JSON to parameters: a reader for each shape, made once.

What a malformed body is told was measured on services of AWS that share this protocol and
its parser (Athena, DynamoDB).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from typing import Any, TypeAlias

from emulator.aws.wire.service_models import Shape
from emulator.model.errors import ApiError

Reader: TypeAlias = Callable[[Any], Any]
"""Turns a JSON value into a parameter; raises SerializationError."""

_FRACTION = re.compile(r"\.(\d+)")


class SerializationError(ApiError):
    """The body cannot be read as the operation's input."""

    code = "SerializationException"


@cache
def reader_of(shape: Shape) -> Reader:
    """The reader of a shape. Members that the model does not have are skipped."""
    if shape.type_name == "structure":
        return _structure_reader(shape)
    if shape.type_name == "list":
        return _list_reader(reader_of(shape.member))
    if shape.type_name == "map":
        return _map_reader(reader_of(shape.value))
    if shape.type_name in ("float", "double"):
        return _float_reader(shape.type_name.capitalize())
    return _SCALARS[shape.type_name]


def _structure_reader(shape: Shape) -> Reader:
    # Documents of any form (a "document type") have no members to read by.
    is_document = getattr(shape, "is_document_type", False)
    members: dict[str, tuple[str, Reader]] = {}

    def read(value: Any) -> dict[str, Any]:
        if isinstance(value, list):
            raise SerializationError("Start of list found where not expected")
        if not isinstance(value, dict):
            raise SerializationError("Expected null")
        if is_document:
            return value
        if not members:  # not before it is needed: a shape may contain itself
            members.update(_member_readers(shape))
        return {
            member[0]: member[1](item)
            for key, item in value.items()
            if item is not None and (member := members.get(key)) is not None
        }

    return read


def _member_readers(shape: Shape) -> dict[str, tuple[str, Reader]]:
    return {
        member.serialization.get("name", name): (name, reader_of(member))
        for name, member in shape.members.items()
    }


def _list_reader(read_item: Reader) -> Reader:
    def read(value: Any) -> list[Any]:
        if isinstance(value, dict):
            raise SerializationError("Start of structure or map found where not expected.")
        if not isinstance(value, list):
            raise SerializationError("Expected list or null")
        return [None if item is None else read_item(item) for item in value]

    return read


def _map_reader(read_item: Reader) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if isinstance(value, list):
            raise SerializationError("Start of list found where not expected")
        if not isinstance(value, dict):
            # Not measured: spelled like its list counterpart.
            raise SerializationError("Expected map or null")
        return {
            _read_string(key): None if item is None else read_item(item)
            for key, item in value.items()
        }

    return read


def _float_reader(name: str) -> Reader:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _not_a(f"a {name}", value)
        try:
            return float(value)
        except OverflowError:
            raise SerializationError("") from None

    return read


def _read_string(value: Any) -> str:
    if not isinstance(value, str):
        raise _not_a("a String", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            raise SerializationError("") from None
    return value


def _read_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _not_a("an Boolean", value)  # sic
    return value


def _read_integer(value: Any) -> int:
    return _whole(value, "an Integer")


def _read_long(value: Any) -> int:
    return _whole(value, "a Long")


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _not_a(name, value)
    try:
        return int(value)
    except OverflowError:  # 1e999 reads as infinity
        raise SerializationError("") from None


def _read_timestamp(value: Any) -> float:
    """Epoch seconds, from a number or from ISO 8601 text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _not_a("a Timestamp", value)
    try:
        return iso_to_epoch(value) if isinstance(value, str) else _in_calendar(float(value))
    except (ValueError, OverflowError, OSError):
        raise _not_a("a Timestamp", value) from None


def _read_blob(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _not_a("a Blob", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise SerializationError("") from None


_SCALARS: dict[str, Reader] = {
    "string": _read_string,
    "character": _read_string,
    "boolean": _read_boolean,
    "integer": _read_integer,
    "long": _read_long,
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
