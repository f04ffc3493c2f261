"""Results to AWS JSON: a writer for each shape, made once."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias

from emulator.aws.wire.service_models import Shape

Writer: TypeAlias = Callable[[Any], Any]
"""Turns a member of a result into what json.dumps takes."""

_Members = list[tuple[str, str, Writer | None]]
"""Name, name on the wire, writer (None: the value goes out as it is)."""


@cache
def writer_of(shape: Shape) -> Writer | None:
    """The writer of a shape; None where a value goes out as it is.

    A structure's members come in the model's order, absent ones and None are left out.
    """
    if shape.type_name == "structure":
        return dict if getattr(shape, "is_document_type", False) else _structure_writer(shape)
    if shape.type_name == "list":
        return _list_writer(writer_of(shape.member))
    if shape.type_name == "map":
        return _map_writer(writer_of(shape.value))
    return _SCALARS.get(shape.type_name)


def _structure_writer(shape: Shape) -> Writer:
    members: _Members = []

    def write(value: Mapping[str, Any]) -> dict[str, Any]:
        if not members:  # not before it is needed: a shape may contain itself
            members.extend(_member_writers(shape))
        get = value.get
        return {
            wire_name: item if write_member is None else write_member(item)
            for name, wire_name, write_member in members
            if (item := get(name)) is not None
        }

    return write


def _member_writers(shape: Shape) -> _Members:
    return [
        (name, member.serialization.get("name", name), writer_of(member))
        for name, member in shape.members.items()
    ]


def _list_writer(write_item: Writer | None) -> Writer:
    return list if write_item is None else lambda value: [write_item(item) for item in value]


def _map_writer(write_item: Writer | None) -> Writer:
    if write_item is None:
        return dict
    return lambda value: {key: write_item(item) for key, item in value.items()}


def _write_timestamp(value: float | datetime) -> float:
    # Job times have milliseconds on the wire, no more (seen).
    return round(value.timestamp() if isinstance(value, datetime) else value, 3)


def _write_blob(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


_SCALARS: dict[str, Writer] = {"timestamp": _write_timestamp, "blob": _write_blob}
