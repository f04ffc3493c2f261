"""Amazon's event stream, as InvokeEndpointWithResponseStream answers in it. Pure.

A message: total length and length of the headers (u32 each), CRC32 of these 8 bytes, headers (u8
length and name, type 7, u16 length and value), payload, CRC32 of all before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
_TEXT = 7
_FRAME = 16
"""Bytes of a message beside its headers and payload."""


def message(headers: bytes, payload: bytes) -> bytes:
    """One message; `headers` as `packed` gives them."""
    prelude = struct.pack(">II", _FRAME + len(headers) + len(payload), len(headers))
    begin = b"".join((prelude, struct.pack(">I", crc32(prelude)), headers, payload))
    return begin + struct.pack(">I", crc32(begin))


def packed(headers: Mapping[str, str]) -> bytes:
    """Headers that are all texts."""
    return b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", _TEXT, len(value))
        + value.encode()
        for name, value in headers.items()
    )


_PART = packed(
    {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
)


def part(payload: bytes) -> bytes:
    """Bytes of the model's answer."""
    return message(_PART, payload)


def exception(kind: str, members: Mapping[str, str]) -> bytes:
    """An error in the middle of a stream: ModelStreamError or InternalStreamFailure."""
    headers = {
        ":exception-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return message(packed(headers), json.dumps(members).encode())
