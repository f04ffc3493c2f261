"""Which file each object of a channel becomes, and on which instance; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emulator.data.inputs.base import DataDownloadFailed
from emulator.data.objectstore.objects import ObjectInfo
from emulator.model.workload import S3Uri

_LONGEST_NAME = 255
"""Bytes of one path component on every Linux file system (NAME_MAX)."""


@dataclass(frozen=True)
class Entry:
    """An object and the file it becomes, below the channel's directory."""

    info: ObjectInfo
    path: str
    """With slashes, none of them at either end."""


def entries(prefix: S3Uri, found: Iterable[ObjectInfo]) -> tuple[Entry, ...]:
    """The files of a channel, in the byte order of their keys.

    Keys that end with a slash and hold nothing only mark a directory: they are skipped.
    Raises ClientError if a key cannot be a file below the channel's directory, if two keys
    need the same name, or if there is nothing at all.
    """
    refuse_illegal(prefix)
    objects = sorted(found, key=lambda info: info.key.encode("utf-8", "surrogateescape"))
    made = tuple(
        _entry(prefix, info, relative_name(prefix.key, info.key))
        for info in objects
        if not _marks_directory(info)
    )
    if not made:
        raise DataDownloadFailed(f"Failed to download data. No S3 objects found under {prefix}")
    _refuse_collisions(prefix, made)
    return made


def listed_entries(prefix: S3Uri, found: Iterable[ObjectInfo]) -> tuple[Entry, ...]:
    """The files of a channel whose objects a manifest names, in the manifest's order.

    A file's path is what the manifest says after its prefix. Raises ClientError as `entries`.
    """
    made = tuple(_entry(prefix, info, info.key[len(prefix.key) :]) for info in found)
    _refuse_collisions(prefix, made)
    return made


def relative_name(prefix: str, key: str) -> str:
    """The path of `key` below the channel of `prefix`.

    Seen from the service: prefix `a/input` with or without a slash and key `a/input/x/y` give
    `x/y`; a prefix that is itself an object gives its last part. What the service does with
    a prefix that ends within a name (`a/tr` and `a/train/x`) is not known: here the whole
    name is kept (`train/x`).
    """
    below = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    if key.startswith(below):
        return key[len(below) :]
    return key[prefix.rfind("/") + 1 :]


def manifest(prefix: S3Uri, made: Iterable[Entry]) -> str:
    """The text of `<channel>-manifest`: the prefix's key, then every object of the channel."""
    lines = [prefix.key, *(f"s3://{prefix.bucket}/{entry.info.key}" for entry in made)]
    return "".join(f"{line}\n" for line in lines)


def refuse_illegal(prefix: S3Uri) -> None:
    """Raise ClientError if every key under `prefix` would lead out of the channel.

    Only whole names count: the last one may be the beginning of a longer one.
    """
    whole, slash, _ = prefix.key.rpartition("/")
    if sequence := _illegal_sequence(f"{whole}{slash}"):
        raise _illegal(prefix, sequence)


def _illegal_sequence(key: str) -> str:
    """The first thing in a key that no file name can have ("" if it is a fine one)."""
    parts = key.removesuffix("/").split("/") if key else []
    for part, sequence in (("", "//"), ("..", ".."), (".", ".")):
        if part in parts:
            return sequence
    return "\\0" if "\0" in key else ""


def _illegal(uri: S3Uri, sequence: str) -> DataDownloadFailed:
    return DataDownloadFailed(
        f"Failed to download data. S3 key: {uri} has an illegal char sub-sequence "
        f"'{sequence}' in it"
    )


def _marks_directory(info: ObjectInfo) -> bool:
    return info.key.endswith("/") and info.size == 0


def _entry(prefix: S3Uri, info: ObjectInfo, name: str) -> Entry:
    if sequence := _illegal_sequence(info.key):
        raise _illegal(S3Uri(prefix.bucket, info.key), sequence)
    path = name.lstrip("/")
    if trouble := _trouble(info.key, path):
        uri = S3Uri(prefix.bucket, info.key)
        raise DataDownloadFailed(f"Failed to download data. S3 key: {uri} {trouble}")
    return Entry(info, path)


def _trouble(key: str, path: str) -> str:
    """Why a key cannot be a file called `path` ("" if it can)."""
    if key.endswith("/"):
        return "names a directory but has content"
    if not path:
        return "has no name"
    longest = max(map(len, path.encode("utf-8", "surrogateescape").split(b"/")))
    return "has a name too long" if longest > _LONGEST_NAME else ""


def _refuse_collisions(prefix: S3Uri, made: Sequence[Entry]) -> None:
    files: dict[str, Entry] = {}
    below: dict[str, Entry] = {}
    for entry in made:
        if (same := files.setdefault(entry.path, entry)) is not entry:
            raise _collision(prefix, same, entry)
        below.setdefault(entry.path.rpartition("/")[0], entry)
    for folder, entry in below.items():
        while folder:
            if (above := files.get(folder)) is not None:
                raise _collision(prefix, above, entry)
            folder = folder.rpartition("/")[0]


def _collision(prefix: S3Uri, first: Entry, second: Entry) -> DataDownloadFailed:
    where = "the same file" if first.path == second.path else "both a file and a directory"
    clash = first.path if first.path == second.path else f"'{first.path}'"
    return DataDownloadFailed(
        f"Failed to download data. S3 keys s3://{prefix.bucket}/{first.info.key} and "
        f"s3://{prefix.bucket}/{second.info.key} would make {clash} {where}"
    )
