"""What the service says of models, configurations and endpoints; sources in docs/hosting.md.

"Seen": quoted in public reports of the real service.
"""

from __future__ import annotations

from emulator.model.scope import Scope

REASON_LIMIT = 1024
"""Characters of a FailureReason (API reference)."""


# Errors of operations


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


# FailureReason of an endpoint


def ping_failed(variant: str, container: str | None = None) -> str:
    """No ping was answered in time (seen); `container` is its host name where there are several."""
    which = "primary container" if container is None else f"{container} container"
    return (
        f"The {which} for production variant {variant} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )


def container_ended(variant: str, image: str) -> str:
    """A container ends at once, again and again (seen)."""
    return (
        f"CannotStartContainerError. Please ensure the model container for variant {variant} "
        f"starts correctly when invoked with 'docker run {image} serve'"
    )


def model_data_failed(container: str, uri: str) -> str:
    """The model's data did not come (seen); `container` is like container_1."""
    return (
        f'Failed to download model data for container "{container}" from URL: "{uri}". Please '
        "ensure that there is an object located at the URL and that the role passed to "
        "CreateModel has permissions to download the object."
    )


def image_missing(variant: str) -> str:
    """An image cannot be pulled (seen)."""
    return (
        "Please make sure all images included in the model for the production variant "
        f"{variant} exist, and that the execution role used to create the model has permissions "
        "to access them"
    )


def capacity(detail: str) -> str:
    """This machine does not have what the variant needs; SDK v2 looks for the first word."""
    return f"CapacityError: {detail}"


def log_link(scope: Scope, log_group: str) -> str:
    """The end of a ModelError's message (seen)."""
    return (
        f"See https://{scope.region}.console.aws.amazon.com/cloudwatch/home?region={scope.region}"
        f"#logEventViewer:group={log_group} in account {scope.account} for more information."
    )
