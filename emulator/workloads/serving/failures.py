"""Why an endpoint, or an update of one, failed: the service's words.

Seen in reports of users; where only a part of a sentence was seen, the rest is this emulator's.
"""

from __future__ import annotations

from collections.abc import Sequence

from emulator.model.errors import FAILURE_REASON_LIMIT, JobError, shortened


class EndpointFailure(JobError):
    """A FailureReason of an endpoint's, which has no prefix."""

    def __init__(self, reason: str):
        Exception.__init__(self, shortened(reason, FAILURE_REASON_LIMIT))


def not_started(variant: str, image: str) -> EndpointFailure:
    """Its process ends again and again before it answers a ping."""
    return EndpointFailure(
        "CannotStartContainerError. Please ensure the model container for variant "
        f"{variant} starts correctly when invoked with 'docker run {image} serve'."
    )


def no_ping(variant: str, hostname: str | None) -> EndpointFailure:
    """It did not answer in time; `hostname` names it where an instance has several."""
    which = "The primary container" if hostname is None else f"The {hostname} container"
    return EndpointFailure(
        f"{which} for production variant {variant} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )


def no_model_data(hostname: str, uri: str, why: str) -> EndpointFailure:
    """The model's data is not there, or is no archive."""
    return EndpointFailure(
        f'Failed to download model data for container "{hostname.replace("-", "_")}" from URL: '
        f'"{uri}". Please ensure that there is an object located at the URL and that the role '
        f"passed to CreateModel has permissions to download the object. ({why})"
    )


def no_image(variant: str, why: str) -> EndpointFailure:
    """The engine cannot have one of the images."""
    return EndpointFailure(
        f"Please make sure all images included in the model for the production variant {variant} "
        "exist, and that the execution role used to create the model has permissions to access "
        f"them. ({why})"
    )


def with_tail(reason: str, lines: Sequence[str]) -> str:
    """The reason with the end of the log, as much of it as a FailureReason can hold."""
    told = f"{reason} Last log lines:"
    tail = ""
    for line in reversed(lines):
        longer = f"\n{line}{tail}"
        if len(told) + len(longer) > FAILURE_REASON_LIMIT:
            break
        tail = longer
    return f"{told}{tail}" if tail else reason[:FAILURE_REASON_LIMIT]
