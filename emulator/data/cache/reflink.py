"""Copies of a file that share its blocks where the file system can do that."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from emulator.data.objectstore.objects import Cancelled

_FICLONE = 0x40049409
"""ioctl of btrfs, XFS and others: the copy takes no space until one of the two is changed."""
_SLICE = 64 << 20
_NOT_HERE = (errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


def clone(source: Path, target: Path, cancelled: Callable[[], bool]) -> None:
    """Make `target` a file of its own with the same bytes (never a hard link).

    Raises FileExistsError if `target` is there, Cancelled, and OSError.
    """
    with source.open("rb") as old, target.open("xb") as new:
        if not (_share(old, new) or _copy_in_kernel(old, new, cancelled)):
            _copy(old, new, cancelled)


def _share(old: BinaryIO, new: BinaryIO) -> bool:
    try:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
    except OSError:
        return False
    return True


def _copy_in_kernel(old: BinaryIO, new: BinaryIO, cancelled: Callable[[], bool]) -> bool:
    """copy_file_range: the bytes do not pass through this process. False if it cannot be had."""
    copied = 0
    while True:
        _stop_if(cancelled)
        try:
            step = os.copy_file_range(old.fileno(), new.fileno(), _SLICE)
        except OSError as error:
            if copied == 0 and error.errno in _NOT_HERE:
                return False
            raise
        if step == 0:
            # Some file systems answer 0 where they cannot do it at all.
            return copied == os.fstat(old.fileno()).st_size
        copied += step


def _copy(old: BinaryIO, new: BinaryIO, cancelled: Callable[[], bool]) -> None:
    old.seek(0)
    new.seek(0)
    while chunk := old.read(1 << 20):
        _stop_if(cancelled)
        new.write(chunk)


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("copy of input data")
