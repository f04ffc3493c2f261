"""Which requests are for S3."""

from __future__ import annotations

from emulator.aws.signatures import Signer
from emulator.aws.wire.http import HttpRequest


def is_s3(request: HttpRequest, signer: Signer | None) -> bool:
    """Whether a request, its body still unread, is for the object store.

    The scope of the signature is the safest sign; what has none, names no operation and
    is no form is taken for S3, whose requests look like any other HTTP.
    """
    if signer is not None:
        return signer.service == "s3"
    is_form = (
        request.method == "POST"
        and request.path == "/"
        and request.content_type == "application/x-www-form-urlencoded"
    )
    return "x-amz-target" not in request.headers and not is_form
