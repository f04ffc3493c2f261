"""Files that S3 did not take, moved to where they outlive their job."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from emulator.data.outputs.beneath import open_beneath
from emulator.data.outputs.tree import Found, open_file
from emulator.model.workload import WorkloadSpec

_log = logging.getLogger(__name__)


def new_place(below: Path, spec: WorkloadSpec, now: float) -> Path:
    """Make `<below>/<account>/<region>/<job>.<UTC time>`, which no other job has or gets.

    A job's name has no dot in it. Raises OSError.
    """
    scope = below / spec.scope.account / spec.scope.region
    scope.mkdir(parents=True, exist_ok=True)
    job = f"{spec.kind.directory_prefix}{spec.name}"
    name = f"{job}.{datetime.fromtimestamp(now, timezone.utc):%Y%m%dT%H%M%SZ}"
    for number in count(1):
        place = scope / (name if number == 1 else f"{name}.{number}")
        with suppress(FileExistsError):
            place.mkdir()
            return place
    raise AssertionError("count() has no end")


def keep(place: Path, kind: str, roots: Mapping[str, Path], depth: int = 1) -> None:
    """Move a directory of each instance to `<place>/<host>/<kind>`.

    An empty directory takes each one's place, so that the job can go on ending. What cannot
    be moved stays, with a line in the log; so does what is no directory, or has a link among
    the last `depth` parts of its path: it would lead to files that are not the job's.
    """
    for host, root in roots.items():
        target = place / host / kind
        try:
            _move(root, target, depth)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.warning("%s could not be kept in %s: %s", root, target, error)
    with suppress(OSError):
        place.rmdir()  # if it is still empty


def keep_files(place: Path, kind: str, files: Mapping[str, Mapping[str, Found]]) -> None:
    """Keep single files, by host and name, as `<place>/<host>/<kind>/<name>`.

    They stay where they are, too. Raises OSError.
    """
    for host, found in files.items():
        for name, file in found.items():
            target = place.joinpath(host, kind, *name.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(file, target)


def _move(root: Path, target: Path, depth: int) -> None:
    folder = open_beneath(root.parent, depth - 1, os.O_DIRECTORY)
    try:
        if not stat.S_ISDIR(os.lstat(root.name, dir_fd=folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is no directory any more")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(root.name, target, src_dir_fd=folder)
        os.mkdir(root.name, dir_fd=folder)
    finally:
        os.close(folder)


def _link(file: Found, target: Path) -> None:
    """A second name for the same file needs no space; another file system takes a copy."""
    folder = open_beneath(file.path.parent, file.depth - 1, os.O_DIRECTORY)
    try:
        os.link(file.path.name, target, src_dir_fd=folder, follow_symlinks=False)
    except OSError:
        with os.fdopen(open_file(file), "rb") as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
    finally:
        os.close(folder)
