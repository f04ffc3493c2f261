"""REST JSON, as far as SageMaker Metrics needs it: the path names the operation, JSON both ways.

Operations with parameters in the path, the query string or headers are not read.
"""

from __future__ import annotations

from botocore.model import ServiceModel

from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_protocol import JsonProtocol
from emulator.model.errors import UnknownOperation


class RestJsonProtocol(JsonProtocol):
    """Reads and writes the messages of one service; bodies are those of JsonProtocol."""

    def __init__(self, service: ServiceModel):
        super().__init__(service, "1.1")
        self.content_type = "application/json"

    def operation_name(self, request: HttpRequest) -> str:
        """The operation with this method and path; raises UnknownOperation."""
        for name in self._service.operation_names:
            http = self._service.operation_model(name).http
            if (http["method"], http["requestUri"]) == (request.method, request.path):
                return str(name)
        raise UnknownOperation("")
