"""The query protocol of STS, IAM and CloudWatch: a form in, XML out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from botocore.model import ServiceModel

from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_protocol import iso_to_epoch
from emulator.aws.wire.service_models import Operation, Shape
from emulator.model.errors import ApiError

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MalformedInput(ApiError):
    """A value of the form cannot be read as its type."""

    code = "MalformedInput"


class QueryProtocol:
    """Reads and writes the messages of one service."""

    content_type = "text/xml"
    validation_code = "ValidationError"

    def __init__(self, service: ServiceModel):
        self._service = service
        self._namespace = service.metadata["xmlNamespace"]

    def operation_name(self, request: HttpRequest) -> str:
        return form_of(request).get("Action", "")

    def unknown_operation(self, name: str) -> ApiError:
        version = self._service.api_version
        return ApiError(
            f"Could not find operation {name} for version {version}", code="InvalidAction"
        )

    def parse(self, request: HttpRequest, operation: Operation) -> dict[str, Any]:
        """The operation's parameters; raises MalformedInput."""
        if operation.input_shape is None:
            return {}
        return _read_structure(operation.input_shape, _tree(form_of(request)))

    def serialize(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> bytes:
        root = ElementTree.Element(f"{operation.name}Response", xmlns=self._namespace)
        if (shape := operation.output_shape) is not None:
            wrapper = shape.serialization.get("resultWrapper", f"{operation.name}Result")
            _write(root, wrapper, shape, result)
        metadata = ElementTree.SubElement(root, "ResponseMetadata")
        ElementTree.SubElement(metadata, "RequestId").text = request_id
        return _document(root)

    def serialize_error(self, error: ApiError, request_id: str) -> bytes:
        root = ElementTree.Element("ErrorResponse", xmlns=self._namespace)
        body = ElementTree.SubElement(root, "Error")
        ElementTree.SubElement(body, "Type").text = "Sender" if error.status < 500 else "Receiver"
        ElementTree.SubElement(body, "Code").text = error.code
        ElementTree.SubElement(body, "Message").text = _NOT_XML.sub("\ufffd", error.message)
        ElementTree.SubElement(root, "RequestId").text = request_id
        return _document(root)


def form_of(request: HttpRequest) -> dict[str, str]:
    """The fields of a form in the body or, for presigned requests, in the query string."""
    text = request.query if request.method == "GET" else request.body.decode("utf-8", "replace")
    try:
        return dict(parse_qsl(text, keep_blank_values=True))
    except ValueError:  # more fields than anybody means
        return {}


_Node = dict[Any, Any]
"""What a form says below one name: the parts that follow, and under None its own value."""

_DEPTH = 40
"""Parts of a name that are looked at; no model nests as deep."""


def _tree(fields: Mapping[str, str]) -> _Node:
    """Nested values out of flat names: `A.member.1.B`, `A.entry.1.key`."""
    root: _Node = {}
    for name, value in fields.items():
        node = root
        for part in name.split(".", _DEPTH):
            node = node.setdefault(part, {})
        node[None] = value
    return root


def _read(shape: Shape, node: _Node) -> Any:
    if shape.type_name == "structure":
        return _read_structure(shape, node)
    if shape.type_name == "list":
        return _read_list(shape, node)
    if shape.type_name == "map":
        return _read_map(shape, node)
    return None if None not in node else _scalar(shape.type_name, node[None])


def _read_structure(shape: Shape, node: _Node) -> dict[str, Any]:
    values = {}
    for name, member in shape.members.items():
        below = node.get(_wire_name(name, member))
        value = None if below is None else _read(member, below)
        if value is not None:
            values[name] = value
    return values


def _read_list(shape: Shape, node: _Node) -> list[Any]:
    if not shape.serialization.get("flattened"):
        node = node.get(shape.member.serialization.get("name", "member"), {})
    return [_read(shape.member, item) for item in _numbered(node)]


def _read_map(shape: Shape, node: _Node) -> dict[str, Any]:
    if not shape.serialization.get("flattened"):
        node = node.get("entry", {})
    key = shape.key.serialization.get("name", "key")
    value = shape.value.serialization.get("name", "value")
    return {
        entry.get(key, {}).get(None, ""): _read(shape.value, entry.get(value, {}))
        for entry in _numbered(node)
    }


def _numbered(node: _Node) -> list[_Node]:
    """The entries of a list in their order; gaps, as clients may leave them, close."""
    numbers = [part for part in node if part and part.isascii() and part.isdigit()]
    return [node[number] for number in sorted(numbers, key=lambda n: (len(n), n))]


def _wire_name(name: str, member: Shape) -> str:
    if member.type_name == "list" and member.serialization.get("flattened"):
        return str(member.member.serialization.get("name", member.serialization.get("name", name)))
    return str(member.serialization.get("name", name))


def _scalar(kind: str, text: str) -> Any:
    try:
        if kind in ("integer", "long"):
            return int(text)
        if kind in ("float", "double"):
            return float(text)
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if kind == "timestamp":
            return iso_to_epoch(text)
        if kind == "blob":
            return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, binascii.Error):
        raise MalformedInput(f"Could not read '{text[:100]}' as {kind}") from None
    return text


# --- writing -------------------------------------------------------------------------------


def _write(parent: ElementTree.Element, tag: str, shape: Shape, value: Any) -> None:
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        for item in value:
            _write(parent, shape.member.serialization.get("name", tag), shape.member, item)
        return
    element = ElementTree.SubElement(parent, tag)
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                _write(element, member.serialization.get("name", name), member, value[name])
    elif shape.type_name == "list":
        for item in value:
            _write(element, shape.member.serialization.get("name", "member"), shape.member, item)
    elif shape.type_name == "map":
        for key, item in value.items():
            entry = ElementTree.SubElement(element, "entry")
            _write(entry, shape.key.serialization.get("name", "key"), shape.key, key)
            _write(entry, shape.value.serialization.get("name", "value"), shape.value, item)
    else:
        element.text = _NOT_XML.sub("\ufffd", _text(shape.type_name, value))


def _text(kind: str, value: Any) -> str:
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        return _iso(value if isinstance(value, (int, float)) else value.timestamp())
    if kind == "blob":
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _iso(epoch: float) -> str:
    moment = datetime.fromtimestamp(round(epoch, 3), timezone.utc)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _document(root: ElementTree.Element) -> bytes:
    document: bytes = ElementTree.tostring(root, encoding="utf-8")
    return document
