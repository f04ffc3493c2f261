"""Which objects a channel has, and which instance gets which."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from emulator.data.cache.objects import Wanted
from emulator.data.inputs.base import DataDownloadFailed, Staging
from emulator.data.inputs.manifests import ObjectList, parse_object_list
from emulator.data.inputs.naming import entries, listed_entries, manifest, refuse_illegal
from emulator.data.objectstore.objects import ObjectInfo, StoreError
from emulator.data.objectstore.transfer import in_parallel
from emulator.model.errors import InternalServerError
from emulator.model.workload import S3Uri

_LARGEST_MANIFEST = 256 << 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class Selection:
    """The objects of a channel, in the order in which they are dealt out."""

    objects: tuple[Wanted, ...]
    manifest: str
    """The text of `<channel>-manifest`."""

    @property
    def bytes(self) -> int:
        return sum(each.info.size for each in self.objects)


def source_of(staging: Staging) -> S3Uri:
    """The S3Uri of a channel."""
    source = staging.channel.s3
    if source is None:
        raise InternalServerError(f"channel {staging.channel.name} has no S3DataSource")
    return S3Uri.parse(source["S3Uri"])


def select(staging: Staging) -> Selection:
    """Ask the store what there is. Raises ClientError, StoreError, Cancelled."""
    uri = source_of(staging)
    if staging.channel.s3_data_type == "ManifestFile":
        return _listed(staging, uri)
    # Before the listing: a server may well find something under a//b.
    refuse_illegal(uri)
    store, patience = staging.sources.store, staging.sources.downloader.patience
    found = patience(staging.cancelled).call(lambda: list(store.list(uri.bucket, uri.key)))
    made = entries(uri, found)
    objects = tuple(Wanted(uri.bucket, entry.info, entry.path) for entry in made)
    return Selection(objects, manifest(uri, made))


def share(items: Sequence[_T], staging: Staging, index: int, epoch: int = 0) -> Sequence[_T]:
    """What receiver `index` (from 0) gets in an epoch, in the order in which it gets it (pure).

    Documented for ShuffleConfig: the order is drawn anew for each epoch from the seed, and
    before the objects are dealt out, so that shards change from epoch to epoch. Seen from
    the service for ShardedByS3Key: object i goes to instance i mod n.
    """
    seed = staging.channel.shuffle_seed
    if seed is not None:
        items = list(items)
        # Not for secrets: everybody has to draw the same order.
        random.Random(f"{seed}/{epoch}").shuffle(items)  # noqa: S311
    return items[index :: len(staging.receivers)] if staging.sharded else items


def read_manifest(staging: Staging, uri: S3Uri) -> str:
    """The text of a manifest in S3."""
    downloader = staging.sources.downloader
    patience = downloader.patience(staging.cancelled)
    info = patience.call(lambda: downloader.reader.head(uri.bucket, uri.key))
    if info.size > _LARGEST_MANIFEST:
        raise DataDownloadFailed(f"Failed to download data. Manifest {uri} is larger than 256 MB")
    data = b"".join(downloader.stream(uri.bucket, info, staging.cancelled))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataDownloadFailed(
            f"Failed to download data. Manifest {uri} is not UTF-8: {error}"
        ) from error


def _listed(staging: Staging, uri: S3Uri) -> Selection:
    listing = parse_object_list(uri, read_manifest(staging, uri))
    for key in listing.keys:
        refuse_illegal(S3Uri(listing.prefix.bucket, f"{key}/"))
    infos = _look_up(staging, uri, listing)
    made = listed_entries(listing.prefix, infos)
    objects = tuple(Wanted(listing.prefix.bucket, entry.info, entry.path) for entry in made)
    return Selection(objects, manifest(listing.prefix, made))


def _look_up(staging: Staging, uri: S3Uri, listing: ObjectList) -> list[ObjectInfo]:
    """Size and ETag of every object that a manifest names."""
    downloader, bucket = staging.sources.downloader, listing.prefix.bucket
    found: dict[str, ObjectInfo] = {}
    lock = threading.Lock()

    def look(key: str, stopping: Callable[[], bool]) -> None:
        try:
            info = downloader.patience(stopping).call(lambda: downloader.reader.head(bucket, key))
        except StoreError as error:
            if error.transient:
                raise
            raise DataDownloadFailed(
                f"Failed to download data. Manifest {uri} names s3://{bucket}/{key}, which "
                f"cannot be read. {error}"
            ) from error
        with lock:
            found[key] = info

    in_parallel(look, listing.keys, staging.cancelled)
    return [found[key] for key in listing.keys]
