"""Input channels: how the objects of a job's InputDataConfig reach its instances.

One file an input mode; `MODES` names them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.model.job import ChannelSpec, Host, S3Uri
from emulator.storage.channels import file
from emulator.storage.channels.base import (
    Channel,
    DataDownloadFailed,
    Progress,
    StagedChannel,
    Staging,
)
from emulator.storage.objects import Cancelled, ObjectStore, StoreError

__all__ = [
    "MODES",
    "Cancelled",
    "Channel",
    "DataDownloadFailed",
    "Progress",
    "StagedChannel",
    "Staging",
    "check_input",
    "refuse_unsupported",
    "stage",
]

MODES: Mapping[str, Channel] = {"File": file.stage}
"""By TrainingInputMode."""

_DATA_TYPES = ("S3Prefix",)


def refuse_unsupported(channel: ChannelSpec) -> None:
    """Raise NotBuilt for what a channel may ask for at AWS and cannot have here (pure)."""
    if channel.s3 is None:
        kind = next(iter(channel.source), "DataSource")
        raise _not_built(channel, kind)
    if channel.s3_data_type not in _DATA_TYPES:
        raise _not_built(channel, f"S3DataType {channel.s3_data_type}")
    if channel.input_mode not in MODES:
        raise _not_built(channel, f"TrainingInputMode {channel.input_mode}")


def check_input(
    store: ObjectStore, channels: Sequence[ChannelSpec], role_arn: str, region: str
) -> None:
    """Raise ValidationError, as CreateTrainingJob does, for a channel that has no objects.

    The service says the same of a bucket that does not exist or may not be read. Raises
    ApiError (503) when the object store cannot be asked.
    """
    for channel in channels:
        if channel.s3 is None:
            continue
        uri = S3Uri.parse(channel.s3["S3Uri"])
        if not _has_objects(store, uri):
            raise ValidationError(
                f'No S3 objects found under S3 URL "{channel.s3["S3Uri"]}" given in input data '
                f"source. Please ensure that the bucket exists in the selected region ({region}),"
                f' that objects exist under that S3 prefix, and that the role "{role_arn}" has '
                f'"s3:ListBucket" permissions on bucket "{uri.bucket}".'
            )


def stage(
    channel: ChannelSpec,
    hosts: Sequence[Host],
    directories: Mapping[str, Path],
    store: ObjectStore,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> StagedChannel:
    """Make a channel ready on every instance that receives it.

    `directories` has each host's /opt/ml/input/data. Raises JobError or Cancelled.
    """
    refuse_unsupported(channel)
    staging = Staging(channel, hosts, directories, store, progress, cancelled)
    return MODES[channel.input_mode](staging)


def _has_objects(store: ObjectStore, uri: S3Uri) -> bool:
    try:
        return store.exists(uri.bucket, uri.key)
    except StoreError as error:
        if error.transient:
            raise ApiError(str(error), code="ServiceUnavailable", status=503) from error
        return False


def _not_built(channel: ChannelSpec, what: str) -> NotBuilt:
    return NotBuilt(f"{what} (channel {channel.name}) is not built into sagemaker-emulator yet")
