"""Which wire protocol a request to a service speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from botocore.model import ServiceModel

from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_protocol import JsonProtocol
from emulator.aws.wire.query_protocol import QueryProtocol
from emulator.aws.wire.rest_json_protocol import RestJsonProtocol
from emulator.aws.wire.service_models import Operation
from emulator.model.errors import ApiError, NotBuilt


class WireProtocol(Protocol):
    """Bytes of a request to parameters, and a result or an error to bytes."""

    @property
    def content_type(self) -> str:
        """Of every answer."""
        ...

    @property
    def validation_code(self) -> str:
        """What the protocol's services call a broken constraint."""
        ...

    def operation_name(self, request: HttpRequest) -> str:
        """The operation that the request names ("" if none)."""
        ...

    def unknown_operation(self, name: str) -> ApiError:
        """The error for an operation that the service does not have."""
        ...

    def parse(self, request: HttpRequest, operation: Operation) -> dict[str, Any]:
        """The parameters, typed as in the model; raises ApiError."""
        ...

    def serialize(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> bytes:
        """The body of a successful answer."""
        ...

    def serialize_error(self, error: ApiError, request_id: str) -> bytes:
        """The body of a failed answer."""
        ...


def protocol_of(request: HttpRequest, service: ServiceModel) -> WireProtocol:
    """The protocol that the request is written in; raises NotBuilt for one not spoken here.

    The request decides, not the model's preference: CloudWatch speaks three protocols, and
    which one it gets depends on the client's age.
    """
    offered = service.metadata.get("protocols", [service.metadata["protocol"]])
    if "query" in offered and _is_form(request):
        return QueryProtocol(service)
    if "json" in offered:
        return JsonProtocol(service, _json_version(request, service))
    if "query" in offered:
        return QueryProtocol(service)
    if "rest-json" in offered:
        return RestJsonProtocol(service)
    raise NotBuilt(
        f"{service.service_name} ({request.method} {request.path}) is not built into "
        f"sagemaker-emulator yet: it speaks {offered[0]}."
    )


def error_protocol_of(request: HttpRequest) -> WireProtocol:
    """A protocol that the client can read an error in when its service is not known here."""
    if _is_form(request):
        return QueryProtocol(_model_for_errors("query"))
    return JsonProtocol(_model_for_errors("json"), "1.1")


def _model_for_errors(protocol: str) -> ServiceModel:
    description = {
        "metadata": {"protocol": protocol, "xmlNamespace": "https://webservices.amazon.com/"},
        "operations": {},
        "shapes": {},
    }
    return ServiceModel(description, "unknown")


def _is_form(request: HttpRequest) -> bool:
    if request.method == "GET":
        return "Action=" in request.query
    return request.content_type == "application/x-www-form-urlencoded"


def _json_version(request: HttpRequest, service: ServiceModel) -> str:
    prefix = "application/x-amz-json-"
    if request.content_type.startswith(prefix):
        return "1.0" if request.content_type == f"{prefix}1.0" else "1.1"
    return str(service.metadata.get("jsonVersion", "1.1"))
