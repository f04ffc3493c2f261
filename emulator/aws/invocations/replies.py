"""What the runtime answers where a model does not: AWS's codes, words and headers. Pure."""

from __future__ import annotations

import json
from typing import Any

from emulator.model.hosting import log_group
from emulator.model.scope import Scope
from emulator.resources.hosting.words import endpoint_not_found, log_link

ORIGINAL_LIMIT = 2048
"""Characters of Message and OriginalMessage in a ModelError (API reference)."""
_NAMESPACE = "http://internal.amazon.com/coral/com.amazon.sagemaker/"
"""Follows the code in x-amzn-errortype (seen)."""


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, members: dict[str, Any]):
        super().__init__(code, members)
        self.status = status
        self.code = code
        self.members = members

    @property
    def message(self) -> str:
        return str(self.members.get("Message", ""))

    @property
    def body(self) -> bytes:
        return json.dumps(self.members).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", b"application/json"),
            (b"x-amzn-errortype", f"{self.code}:{_NAMESPACE}".encode()),
        ]


def invalid(message: str) -> Refusal:
    """ValidationError, as the runtime calls it."""
    return Refusal(400, "ValidationError", {"Message": message})


def no_endpoint(scope: Scope, name: str) -> Refusal:
    """Unknown, Creating and Failed endpoints (seen)."""
    message = endpoint_not_found(name, scope.account)
    members = {"ErrorCode": "NO_SUCH_ENDPOINT", "Message": message}
    return Refusal(400, "ValidationError", members)


def too_large(limit: int) -> Refusal:
    """A body that is longer than the runtime takes."""
    message = f"The request body has more than {limit} bytes."
    return Refusal(413, "RequestEntityTooLarge", {"Message": message})


def throttled() -> Refusal:
    """More requests at once than a serverless variant takes (the words are another service's)."""
    return Refusal(429, "ThrottlingException", {"Message": "Rate exceeded"})


def not_ready(model: str) -> Refusal:
    """A model that is not loaded yet; SDKs send the request again."""
    return Refusal(429, "ModelNotReadyException", {"Message": f"{model} is not ready yet."})


def unavailable(name: str) -> Refusal:
    """No instance has come in time."""
    message = (
        f"The endpoint {name} has no instance that answers, and none came while the request "
        "waited. DescribeEndpoint and the endpoint's log tell why."
    )
    return Refusal(503, "ServiceUnavailable", {"Message": message})


def no_capacity() -> Refusal:
    """An inference component without copies (seen)."""
    return invalid(
        "Inference Component has no capacity to process this request. ApplicationAutoScaling may "
        "be in-progress (if configured) or try to increase the capacity by invoking "
        "UpdateInferenceComponentRuntimeConfig API."
    )


def component_missing() -> Refusal:
    """A request that does not name its inference component (seen)."""
    return invalid(
        "Inference Component Name header is required for endpoints to which you plan to deploy "
        "inference components. Please include Inference Component Name header or consider using "
        "SageMaker models."
    )


class ModelErrors:
    """The ModelErrors of one endpoint; `container` is `primary`, `model` or a host name."""

    def __init__(self, scope: Scope, endpoint: str):
        self._link = log_link(scope, log_group(endpoint))
        self._stream = (
            f"arn:{scope.partition}:logs:{scope.region}:{scope.account}:log-group:"
            f"{log_group(endpoint)}"
        )

    def answered(self, container: str, status: int, body: bytes) -> Refusal:
        """The container answered with an error (seen)."""
        text = body.decode("utf-8", "replace")
        kind = "server" if status >= 500 else "client"
        begin = f'Received {kind} error ({status}) from {container} with message "'
        return self._error(self._quoted(begin, text), status, text)

    def unreadable(self, container: str) -> Refusal:
        """The answer broke off, or is too large (seen)."""
        message = (
            f"Received server error (500) from {container} and could not load the entire response "
            f"body. {self._link}"
        )
        return self._error(message, 500, "")

    def timed_out(self, container: str) -> Refusal:
        """The whole answer did not come in 60 s (seen)."""
        return self._silent(
            container,
            f"Your invocation timed out while waiting for a response from container {container}. "
            "Review the latency metrics for each container in Amazon CloudWatch, resolve the "
            "issue, and try again.",
        )

    def broken(self, container: str) -> Refusal:
        """The container closes the connection without an answer."""
        return self._silent(
            container, f"The container {container} closed the connection before it answered."
        )

    def _silent(self, container: str, text: str) -> Refusal:
        begin = f'Received server error (0) from {container} with message "'
        return self._error(self._quoted(begin, text), 0, text)

    def _quoted(self, begin: str, text: str) -> str:
        end = f'". {self._link}'
        return f"{begin}{text[: ORIGINAL_LIMIT - len(begin) - len(end)]}{end}"

    def _error(self, message: str, status: int, original: str) -> Refusal:
        members = {
            "Message": message,
            "OriginalStatusCode": status,
            "OriginalMessage": original[:ORIGINAL_LIMIT],
            "LogStreamArn": self._stream,
        }
        return Refusal(424, "ModelError", members)


def stream_timed_out(container: str) -> dict[str, str]:
    """Members of the ModelStreamError of a stream that takes longer than it may (seen)."""
    return {
        "Message": f"Your model {container} did not complete sending the inference response in the "
        "allotted time.",
        "ErrorCode": "ModelInvocationTimeExceeded",
    }


def stream_broken(container: str) -> dict[str, str]:
    """Members of the ModelStreamError of a stream that the container does not end."""
    return {
        "Message": f"The container {container} closed the connection before its response ended.",
        "ErrorCode": "StreamBroken",
    }
