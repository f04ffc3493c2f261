"""Bodies that a client has packed: CloudWatch's PutMetricData comes so when it is large."""

from __future__ import annotations

import zlib
from dataclasses import replace

from emulator.aws.wire.http import HttpRequest
from emulator.model.errors import ApiError

_GZIP = 16 + zlib.MAX_WBITS


def unpacked(request: HttpRequest, limit: int) -> HttpRequest:
    """The request with its body as it was before gzip; raises ApiError.

    `limit` is the most bytes that a body may become.
    """
    if request.headers.get("content-encoding", "").strip().lower() != "gzip":
        return request
    reader = zlib.decompressobj(_GZIP)
    try:
        body = reader.decompress(request.body, limit)
    except zlib.error:
        raise ApiError("The body is not gzip.", code="SerializationException") from None
    if reader.unconsumed_tail:
        raise ApiError("Request size is too large.", code="RequestEntityTooLarge", status=413)
    if not reader.eof:
        raise ApiError("The body is not whole.", code="SerializationException")
    return replace(request, body=body)
