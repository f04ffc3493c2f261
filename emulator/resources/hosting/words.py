"""What the service answers about models, configurations and endpoints.

"Seen": quoted in public reports of the real service. A FailureReason is the engine's
(`workloads/serving/failures.py`).
"""

from __future__ import annotations

from emulator.model.scope import Scope


def in_progress(arn: str) -> str:
    """Of Update, UpdateWeightsAndCapacities and Delete while the last one goes on (seen)."""
    return f'Cannot update in-progress endpoint "{arn}".'


def no_model_data(uri: str) -> str:
    """Of CreateModel (seen)."""
    return f"Could not find model data at {uri}."


def no_image(image: str) -> str:
    """Of CreateModel (quoted in forums)."""
    return f"Requested image {image} not found."


def quota(instance_type: str, limit: int, asked: int) -> str:
    """Of CreateEndpoint (the form is seen)."""
    return (
        f"The account-level service limit '{instance_type} for endpoint usage' is {limit} "
        f"Instances, with current utilization of 0 Instances and a request delta of {asked} "
        "Instances. Please use AWS Service Quotas to request an increase for this quota. If AWS "
        "Service Quotas is not available, contact AWS support to request an increase for this "
        "quota."
    )


def endpoint_not_found(name: str, account: str) -> str:
    """Of the runtime, for an endpoint that is not there, Creating or Failed (seen)."""
    return f"Endpoint {name} of account {account} not found."


def log_link(scope: Scope, log_group: str) -> str:
    """The end of a ModelError's message (seen)."""
    return (
        f"See https://{scope.region}.console.aws.amazon.com/cloudwatch/home?region={scope.region}"
        f"#logEventViewer:group={log_group} in account {scope.account} for more information."
    )
