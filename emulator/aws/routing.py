"""Which AWS service a request is for, from what every client sends anyway."""

from __future__ import annotations

from collections.abc import Collection

from emulator.aws.signatures import Signer
from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.query_protocol import form_of
from emulator.aws.wire.service_models import SIGNING_NAMES, operation_model, service_model
from emulator.model.errors import NotBuilt

# Services that share SageMaker's signing name and differ by path.
_SAGEMAKER_PATHS = {
    "/endpoints/": "sagemaker-runtime",
    "/BatchPutMetrics": "sagemaker-metrics",
    "/BatchGetMetrics": "sagemaker-metrics",
}


def service_of(request: HttpRequest, signer: Signer | None, built: Collection[str]) -> str:
    """The botocore name of the service; raises NotBuilt where nothing names a known one."""
    if signer is not None:
        return _signed_service(signer, request)
    if target := request.headers.get("x-amz-target"):
        return _by_target(target, built)
    return _by_action(form_of(request).get("Action", ""), built)


def _signed_service(signer: Signer, request: HttpRequest) -> str:
    if signer.service == "sagemaker" and "x-amz-target" not in request.headers:
        for path, service in _SAGEMAKER_PATHS.items():
            if request.path.startswith(path):
                return service
    return SIGNING_NAMES.get(signer.service, signer.service)


def _by_target(target: str, built: Collection[str]) -> str:
    prefix = target.rpartition(".")[0]
    for name in built:
        model = service_model(name)
        if model is not None and model.metadata.get("targetPrefix") == prefix:
            return name
    raise NotBuilt(f"{target}: this service is not built into sagemaker-emulator yet.")


def _by_action(action: str, built: Collection[str]) -> str:
    for name in built:
        model = service_model(name)
        if (
            model is not None
            and "xmlNamespace" in model.metadata
            and operation_model(model, action) is not None
        ):
            return name
    raise NotBuilt(f"Action {action}: this service is not built into sagemaker-emulator yet.")
