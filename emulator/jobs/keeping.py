"""Files that S3 did not take, moved to where they outlive their job."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from emulator.model.job import JobSpec
from emulator.storage.beneath import open_beneath

_log = logging.getLogger(__name__)


def keep(below: Path, spec: JobSpec, kind: str, roots: Mapping[str, Path], depth: int = 1) -> Path:
    """Move a directory of each instance to `<below>/<account>/<region>/<job>/<host>/<kind>`.

    An empty directory takes each one's place, so that the job can go on ending. Returns the
    job's directory below `below`. What cannot be moved stays, with a line in the log; so does
    what is no directory, or has a link among the last `depth` parts of its path: it would lead
    to files that are not the job's.
    """
    place = below / spec.scope.account / spec.scope.region / spec.name
    for host, root in roots.items():
        target = place / host / kind
        try:
            _move(root, target, depth)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.warning("%s could not be kept in %s: %s", root, target, error)
    return place


def _move(root: Path, target: Path, depth: int) -> None:
    folder = open_beneath(root.parent, depth - 1, os.O_DIRECTORY)
    try:
        if not stat.S_ISDIR(os.lstat(root.name, dir_fd=folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is no directory any more")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(root.name, target, src_dir_fd=folder)
        os.mkdir(root.name, dir_fd=folder)
    finally:
        os.close(folder)
