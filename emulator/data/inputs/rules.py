"""What CreateTrainingJob refuses about a job's channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from emulator.data.inputs.file_system import directory_of
from emulator.data.objectstore.objects import ObjectStore, StoreError
from emulator.model.errors import ApiError, ClientError, NotBuilt, ValidationError
from emulator.model.workload import ChannelSpec, S3Uri

_S3_TYPES: Mapping[str, tuple[str, ...]] = {
    "S3Prefix": ("File", "Pipe", "FastFile"),
    "ManifestFile": ("File", "Pipe"),
    "AugmentedManifestFile": ("Pipe",),
}
"""The input modes that can be had with each S3DataType (API reference, S3DataSource)."""


def refuse_unsupported(channel: ChannelSpec) -> None:
    """Raise ApiError for what a channel cannot be, there or here (pure)."""
    if channel.s3 is None:
        if "FileSystemDataSource" not in channel.source:
            raise _not_built(channel, next(iter(channel.source), "DataSource"))
        return
    kind, mode = channel.s3_data_type, channel.input_mode
    if kind not in _S3_TYPES:
        raise _not_built(channel, f"S3DataType {kind}")
    if mode not in _S3_TYPES[kind]:
        raise ValidationError(
            f"S3DataType {kind} cannot be used with TrainingInputMode {mode} "
            f"(channel {channel.name})."
        )
    if kind == "AugmentedManifestFile" and not channel.s3.get("AttributeNames"):
        raise ValidationError(
            f"S3DataType AugmentedManifestFile needs AttributeNames (channel {channel.name})."
        )


def check_input(
    store: ObjectStore,
    channels: Sequence[ChannelSpec],
    role_arn: str,
    region: str,
    file_systems: Mapping[str, Path] | None = None,
) -> None:
    """Raise ValidationError, as CreateTrainingJob does, for a channel that has no data.

    The service says the same of a bucket that does not exist or may not be read. Raises
    ApiError (503) when the object store cannot be asked.
    """
    for channel in channels:
        if channel.s3 is None:
            _check_file_system(channel, file_systems or {})
        elif not _has_objects(store, uri := S3Uri.parse(channel.s3["S3Uri"])):
            raise ValidationError(
                f'No S3 objects found under S3 URL "{channel.s3["S3Uri"]}" given in input data '
                f"source. Please ensure that the bucket exists in the selected region ({region}),"
                f' that objects exist under that S3 prefix, and that the role "{role_arn}" has '
                f'"s3:ListBucket" permissions on bucket "{uri.bucket}".'
            )


def _check_file_system(channel: ChannelSpec, file_systems: Mapping[str, Path]) -> None:
    try:
        directory_of(channel, file_systems)
    except ClientError as error:
        raise ValidationError(str(error).partition(": ")[2]) from error


def _has_objects(store: ObjectStore, uri: S3Uri) -> bool:
    try:
        return store.exists(uri.bucket, uri.key)
    except StoreError as error:
        if error.transient:
            raise ApiError(str(error), code="ServiceUnavailable", status=503) from error
        return False


def _not_built(channel: ChannelSpec, what: str) -> NotBuilt:
    return NotBuilt(f"{what} (channel {channel.name}) is not built into sagemaker-emulator yet")
