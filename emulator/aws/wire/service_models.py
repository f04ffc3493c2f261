"""botocore's own description of every AWS service: the schema of the endpoint."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel

Shape: TypeAlias = Any
"""A botocore shape; botocore builds their members at run time, so they have no static type."""

Operation: TypeAlias = Any
"""A botocore OperationModel."""

SIGNING_NAMES = {"monitoring": "cloudwatch"}
"""Names in a signature's scope that differ from botocore's service name."""

_loader = Loader()


@cache
def service_model(service: str) -> ServiceModel | None:
    """The model of a service by its botocore name; None if AWS has no such service."""
    try:
        description = _loader.load_service_model(service, "service-2")
    except UnknownServiceError:
        return None
    return ServiceModel(description, service)


def operation_model(service: ServiceModel, name: str) -> Operation | None:
    """The operation of that name; None if the service has none."""
    if name not in service.operation_names:
        return None
    return service.operation_model(name)
