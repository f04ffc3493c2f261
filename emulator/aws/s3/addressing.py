"""The two ways to name a bucket: in the path, and in the host ("virtual-hosted style")."""

from __future__ import annotations

import re
from dataclasses import replace

from emulator.aws.signatures import SignedRequest

_BASE = (
    r"(?:s3(?:[.-][a-z0-9-]+)?\.)?(?:localhost|host\.docker\.internal)"
    r"|s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?"
)
_NO_BUCKET = re.compile(_BASE)
_WITH_BUCKET = re.compile(rf"(?P<bucket>[a-z0-9][a-z0-9._-]+?)\.(?P<base>{_BASE})")


def path_style(request: SignedRequest) -> SignedRequest:
    """The same request with its bucket in the path, so that every store understands it.

    A host is taken for `<bucket>.<base>` where the base is `localhost`, `host.docker.internal`
    (both also after `s3.` or `s3.<region>.`) or one of S3's own. The signature is then wrong.
    Source: "Virtual hosting of buckets" (S3 user guide).
    """
    host = request.header(b"host").lower()
    name, colon, port = host.partition(":")
    found = _WITH_BUCKET.fullmatch(name)
    if found is None or _NO_BUCKET.fullmatch(name):
        return request
    path = "" if request.path == "/" else request.path
    base = f"{found['base']}{colon}{port}".encode("latin-1")
    headers = [(each, base if each == b"host" else value) for each, value in request.headers]
    return replace(request, path=f"/{found['bucket']}{path}", headers=headers)
