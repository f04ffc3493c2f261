"""A job's files on this machine, as its run looks at them and removes them."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

from emulator.model.errors import FAILURE_REASON_LIMIT
from emulator.model.workload import WorkloadSpec
from emulator.workloads.plan.layout import InstanceDirs

_FAILURE_BYTES = 16 * FAILURE_REASON_LIMIT
"""Read of the beginning, and of the end, of what a script says of its failure."""
_log = logging.getLogger(__name__)


def failure_text(path: Path) -> str:
    """What a script says of its failure; of a long text the beginning and the end.

    The script may have put anything there: links are not followed, pipes not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return ""
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(_FAILURE_BYTES)
        if status.st_size > 2 * _FAILURE_BYTES:
            file.seek(-_FAILURE_BYTES, os.SEEK_END)
            text += b"\n[...]\n"
        return (text + file.read(_FAILURE_BYTES)).decode("utf-8", "replace")


def has_files(spec: WorkloadSpec, dirs: InstanceDirs) -> bool:
    """Did the instance leave any output? Where a link leads does not count."""
    folders = [dirs.at(output.path) for output in spec.outputs]
    return any(any(each.iterdir()) for each in folders if each.is_dir() and not each.is_symlink())


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
