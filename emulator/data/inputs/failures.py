"""What goes wrong while data comes, in the service's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from emulator.data.inputs.base import DataDownloadFailed
from emulator.data.objectstore.objects import StoreError
from emulator.model.errors import InternalServerError, JobError, disk_full

DISK_FULL = "Insufficient disk space"


@contextmanager
def in_the_services_words(channel: str, source: str) -> Iterator[None]:
    """Turn errors of the store and of the disk into JobErrors."""
    try:
        yield
    except (StoreError, OSError) as error:
        raise job_error(channel, source, error) from error


def job_error(channel: str, source: str, error: StoreError | OSError) -> JobError:
    """Why the job fails; `source` is the channel's S3 URI."""
    if isinstance(error, StoreError):
        if error.transient:
            return InternalServerError(f"Data download failed:{error}")
        return DataDownloadFailed(f"Failed to download data from {source}. {error}")
    if full := disk_full(error, f"input data of {channel}"):
        return DataDownloadFailed(f"{DISK_FULL} ({full})")
    if error.errno == errno.ENAMETOOLONG:
        return DataDownloadFailed(f"Failed to download data. A name is too long: {error.filename}")
    return InternalServerError(f"input data of {channel}: {error}")
