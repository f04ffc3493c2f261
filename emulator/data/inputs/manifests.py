"""Manifests: objects listed by a user (ManifestFile), and annotated ones (AugmentedManifestFile).

Pure. Their forms are documented in the API reference, S3DataSource.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emulator.data.inputs.base import DataDownloadFailed
from emulator.model.workload import S3Uri

_SHOWN = 80


@dataclass(frozen=True)
class ObjectList:
    """What a ManifestFile names."""

    prefix: S3Uri
    keys: tuple[str, ...]
    """Whole keys, in the order of the manifest, each once."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of one line: a text of its own, or the object that it names."""

    text: str = ""
    reference: S3Uri | None = None


def parse_object_list(uri: S3Uri, text: str) -> ObjectList:
    """Read `[{"prefix": "s3://bucket/p/"}, "relative/path-1", …]`; raises ClientError."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _bad(uri, f"is not JSON: {error}") from error
    if not isinstance(content, list) or not content:
        raise _bad(uri, 'is not a list that begins with {"prefix": "s3://…"}')
    first, *names = content
    if not isinstance(first, dict) or not isinstance(first.get("prefix"), str):
        raise _bad(uri, 'does not begin with {"prefix": "s3://…"}')
    try:
        prefix = S3Uri.parse(first["prefix"])
    except ValueError as error:
        raise _bad(uri, f"has a prefix that is {error}") from error
    for name in names:
        if not isinstance(name, str) or not name:
            raise _bad(uri, f"has an entry that is not a name: {_shown(name)}")
    if not names:
        raise _bad(uri, "names no objects")
    return ObjectList(prefix, tuple(dict.fromkeys(prefix.key + name for name in names)))


def parse_line(uri: S3Uri, number: int, line: str, names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes of one line of an augmented manifest, in the order of AttributeNames.

    Those that end with `-ref` are objects in S3, the others are sent as they are written.
    Raises ClientError; `number` is the line's, from 1.
    """
    try:
        content = json.loads(line)
    except ValueError as error:
        raise _bad(uri, f"has a line {number} that is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _bad(uri, f"has a line {number} that is not an object: {_shown(content)}")
    return tuple(_attribute(uri, number, content, name) for name in names)


def _attribute(uri: S3Uri, number: int, content: dict[str, Any], name: str) -> Attribute:
    if name not in content:
        raise _bad(uri, f"has a line {number} without the attribute '{name}'")
    value = content[name]
    if not name.endswith("-ref"):
        text = value if isinstance(value, str) else json.dumps(value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            # JSON can name half a character.
            raise _bad(uri, f"has a line {number} whose '{name}' is not valid Unicode") from error
        return Attribute(text)
    try:
        reference = S3Uri.parse(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad(uri, f"has a line {number} whose '{name}' is no S3 URI: {_shown(value)}") from (
            error
        )
    return Attribute(reference=reference)


def _shown(value: object) -> str:
    return json.dumps(value)[:_SHOWN]


def _bad(uri: S3Uri, what: str) -> DataDownloadFailed:
    return DataDownloadFailed(f"Failed to download data. Manifest {uri} {what}")
