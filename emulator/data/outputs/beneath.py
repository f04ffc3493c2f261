"""Opening what lies where a script can put links, without being led out of its directory."""

from __future__ import annotations

import os
from pathlib import Path

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(path: Path, depth: int, flags: int) -> int:
    """A descriptor of `path`; none of its last `depth` parts may be a symbolic link.

    A script owns what lies in its mounts: it can replace a file, and any directory on the way
    to it, by a link to a place that only the emulator may read. Each part is opened in the one
    before it, so that this holds at every moment. Raises OSError: NotADirectoryError for a
    link where a directory should be.
    """
    if not depth:
        return os.open(path, flags | os.O_CLOEXEC)
    *way, last = path.parts[-depth:]
    folder = os.open(path.parents[depth - 1], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in way:
            inner = os.open(part, _STEP, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
