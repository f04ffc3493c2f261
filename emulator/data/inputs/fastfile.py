"""FastFile mode: a read-only file system whose files are fetched as they are read."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.data.cache.objects import Wanted
from emulator.data.inputs import file
from emulator.data.inputs.base import DataDownloadFailed, StagedChannel, Staging
from emulator.data.inputs.failures import in_the_services_words
from emulator.data.inputs.fuse import FuseMount
from emulator.data.inputs.selection import select, share, source_of
from emulator.model.errors import InternalServerError, JobError, SetupError
from emulator.model.plan import Mount
from emulator.model.workload import S3Uri


def stage(staging: Staging) -> StagedChannel:
    """Mount the prefix; no object is read before the training reads it."""
    if not staging.sources.sees_mounts:
        # The same files for an emulator in a container, only all of them beforehand.
        return file.stage(staging)
    uri = source_of(staging)
    with in_the_services_words(staging.channel.name, str(uri)):
        selection = select(staging)
        refuse_partial_prefix(uri, selection.objects)
        for host in staging.receivers:
            staging.directory(host).mkdir(parents=True, exist_ok=True)
        served = _serve(staging, uri, selection.objects)

    def trouble() -> JobError | None:
        for mount in filter(None, served):
            if reason := mount.trouble():
                return InternalServerError(f"FastFile channel {staging.channel.name}: {reason}")
        return None

    mounts = {
        host.name: Mount(mount.directory, staging.target, read_only=True)
        for index, host in enumerate(staging.receivers)
        if (mount := served[index % len(served)])
    }
    name = staging.channel.name
    return StagedChannel(
        name,
        len(selection.objects),
        selection.bytes,
        mounts,
        close=lambda: _close(served),
        trouble=trouble,
    )


def refuse_partial_prefix(uri: S3Uri, objects: Sequence[Wanted]) -> None:
    """Raise ClientError, in the service's words, for a prefix that ends within a name."""
    folder = uri.key if not uri.key or uri.key.endswith("/") else f"{uri.key}/"
    for each in objects:
        if each.info.key != uri.key and not each.info.key.startswith(folder):
            raise DataDownloadFailed(
                "Failed to download data. For FastFile mode, partial S3 prefix is not supported. "
                "S3 prefix has to end with a full file or folder. Add a trailing '/' to the S3 "
                "prefix if it ends with a folder name that is also a prefix for other folders. "
                f"Current S3 prefix: [{uri.key}], found S3 object: [{each.info.key}]."
            )


def _serve(staging: Staging, uri: S3Uri, objects: Sequence[Wanted]) -> list[FuseMount | None]:
    """One mount for all, or one for each instance; None where a part has no objects."""
    whole = not any(each.info.key == uri.key for each in objects)
    folder = uri.key.rstrip("/") if whole else uri.key.rpartition("/")[0]
    remote = f"{uri.bucket}/{folder}" if folder else uri.bucket
    sources = staging.sources
    served: list[FuseMount | None] = []
    try:
        for index in range(len(staging.receivers) if staging.sharded else 1):
            part = [each.path for each in share(objects, staging, index)]
            names = None if whole and not staging.sharded else part
            served.append(
                FuseMount(sources.store, remote, names, sources.scratch, sources.engine)
                if part
                else None
            )
        for mount in filter(None, served):
            mount.wait(staging.cancelled)
    except BaseException as error:
        _close(served)
        if isinstance(error, SetupError):
            raise DataDownloadFailed(f"FastFile channel {staging.channel.name}: {error}") from error
        raise
    return served


def _close(served: Sequence[FuseMount | None]) -> None:
    for mount in filter(None, served):
        mount.close()
