"""Why an engine did not start a job, in the terms of the job's FailureReason."""

from __future__ import annotations

from docker.errors import ImageNotFound, NotFound

from emulator.drivers.images.resolution import CANNOT_PULL
from emulator.model.errors import CapacityError, ClientError, InternalServerError, JobError


def job_error(error: Exception) -> JobError:
    """The error that ends the job; engines tell some of these causes by their text alone."""
    if isinstance(error, JobError):
        return error
    text = str(getattr(error, "explanation", None) or error)
    if isinstance(error, ImageNotFound) or "No such image" in text:
        return ClientError(CANNOT_PULL)
    if isinstance(error, NotFound):
        return InternalServerError(f"Something removed the job's parts while it started: {text}")
    if "device driver" in text or "CDI device" in text:
        return CapacityError(f"The Docker engine cannot give the job's GPUs: {text}")
    if "address pool" in text:
        return CapacityError(f"The Docker engine has no network left for the job: {text}")
    if "bind source path does not exist" in text:
        return InternalServerError(
            f"The Docker engine does not see the emulator's state directory: {text}"
        )
    return InternalServerError(f"The Docker engine did not start the job: {text}")
