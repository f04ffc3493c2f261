"""A job's files on this machine, as its run looks at them and removes them."""

from __future__ import annotations

import codecs
import logging
import os
import shutil
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from emulator.data.outputs.beneath import open_beneath
from emulator.model.errors import FAILURE_REASON_LIMIT, ClientError
from emulator.model.workload import WorkloadSpec
from emulator.workloads.plan.layout import InstanceDirs

_FAILURE_BYTES = 16 * FAILURE_REASON_LIMIT
"""Read of the beginning, and of the end, of what a script says of its failure."""
_MESSAGE_BYTES = 1024
"""ExitMessage has no more (API reference)."""
_log = logging.getLogger(__name__)


def failure_text(path: Path) -> str:
    """What a script says of its failure; of a long text the beginning and the end."""
    file = _open_plain(path)
    if file is None:
        return ""
    with file:
        size = os.fstat(file.fileno()).st_size
        text = file.read(_FAILURE_BYTES)
        if size > 2 * _FAILURE_BYTES:
            file.seek(-_FAILURE_BYTES, os.SEEK_END)
            text += b"\n[...]\n"
        return (text + file.read(_FAILURE_BYTES)).decode("utf-8", "replace")


def exit_message(spec: WorkloadSpec, instances: Mapping[str, InstanceDirs]) -> str | None:
    """What the instances say at their end, one after another; None if they say nothing.

    The first kilobyte of it all (developer guide, processing jobs). Raises ClientError for what
    is not UTF-8, as documented; the words are this emulator's.
    """
    if spec.message_file is None:
        return None
    try:
        said = "".join(_beginning(dirs.at(spec.message_file)) for dirs in instances.values())
    except UnicodeDecodeError as error:
        raise ClientError(f"The text in {spec.message_file} is not UTF-8: {error}") from error
    return said.encode()[:_MESSAGE_BYTES].decode("utf-8", "ignore") or None


def _beginning(path: Path) -> str:
    """The first kilobyte of a text; a character that it cuts in two is left out."""
    file = _open_plain(path)
    if file is None:
        return ""
    with file:
        text = file.read(_MESSAGE_BYTES)
        return codecs.getincrementaldecoder("utf-8")().decode(text, final=not file.read(1))


def _open_plain(path: Path) -> BinaryIO | None:
    """A file that a script may have left, if it is one.

    The script may have put anything there: links are not followed, pipes not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    return None


def has_files(spec: WorkloadSpec, dirs: InstanceDirs) -> bool:
    """Did the instance leave any output? Where a link leads does not count."""
    return any(_is_filled(dirs.at(output.path), dirs.depth(output.path)) for output in spec.outputs)


def _is_filled(directory: Path, depth: int) -> bool:
    try:
        descriptor = open_beneath(directory, depth, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is not None
    finally:
        os.close(descriptor)


def remove_directory(directory: Path) -> None:
    """Remove a job's files, also those in folders that its script made read-only.

    What cannot be removed, such as another user's files, is moved aside: the next attempt at
    the job starts with nothing.
    """
    if not directory.exists():
        return
    for folder, names, _ in os.walk(directory):
        for name in names:
            child = Path(folder, name)
            # What cannot be made writable (another user's, or a link) stays to rmtree.
            with suppress(OSError):
                if not child.is_symlink():
                    child.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
        return
    # No job's name has a tilde.
    first = directory.name.partition("~")[0]
    aside = directory.with_name(f"{first}~{time.time_ns()}")
    try:
        directory.rename(aside)
    except OSError as error:
        _log.warning("%s could not be removed completely: %s", directory, error)
        return
    _log.warning("%s could not be removed completely; the rest is in %s", directory, aside)
