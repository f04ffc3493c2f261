"""Disk space that is kept back for the emulator itself: jobs end and it starts on a full disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from threading import Lock

from emulator.model.errors import SetupError

_LOW = 1 << 20
"""Bytes left on a disk that counts as full: one change of the database needs less."""
_STEP = 1 << 20
"""Given back at a time, so that a job that fills the disk does not get all of it at once."""
_TO_START = 8 << 20
"""Bytes that a start needs: the databases and the object store write before they answer."""
_log = logging.getLogger(__name__)


class Reserve:
    """A preallocated file that shrinks where the disk is full, and is made whole with room."""

    def __init__(self, state_dir: Path, size: int):
        """`size` in bytes; with 0 nothing is kept back."""
        self._directory = state_dir
        self._path = state_dir / "reserve"
        self._size = size
        self._lock = Lock()
        self._held = self._path.stat().st_size if self._path.exists() else 0

    def release_to_start(self) -> None:
        """Give back what a start needs where the disk is full.

        Raises SetupError where that is not enough to start.
        """
        with self._lock:
            if self._held > self._size:  # the setting was larger once
                self._shrink(self._held - self._size)
            if (free := self._free()) >= _TO_START:
                self._fill()
                return
            self._shrink(_TO_START - free)
            free = self._free()
        if free < _TO_START:
            raise SetupError(
                f"The disk of {self._directory} is full: {free >> 10} KiB are free.",
                f"Make {_TO_START >> 20} MiB free. {self._directory / 'cache'} can be removed; "
                "`sagemaker-emulator doctor` names what ended jobs left, with sizes.",
            )
        _log.warning("the disk of %s is full: the reserve is used to start", self._directory)

    def make_room(self) -> None:
        """Called before each change of a database: a job's end must find room for itself."""
        with self._lock:
            free = self._free()
            if free < _LOW and self._held:
                if self._held == self._size:
                    _log.warning(
                        "the disk of %s is full: remove what you do not need; "
                        "`sagemaker-emulator doctor` names what ended jobs left, with sizes",
                        self._directory,
                    )
                self._shrink(_STEP)
            elif self._held < self._size:
                self._fill()

    def _fill(self) -> None:
        """Make it whole, but not on a disk that is nearly full."""
        if self._held >= self._size or self._free() < 2 * self._size + _TO_START:
            return
        try:
            with self._path.open("ab") as file:
                self._path.chmod(0o600)
                try:
                    os.posix_fallocate(file.fileno(), 0, self._size)
                finally:
                    self._held = os.fstat(file.fileno()).st_size
        except OSError as error:
            _log.warning("%s cannot be made: %s", self._path, error.strerror)

    def _shrink(self, by: int) -> None:
        held = max(0, self._held - by)
        try:
            os.truncate(self._path, held)
        except OSError as error:  # a user has removed it, for instance
            _log.warning("%s cannot be made smaller: %s", self._path, error.strerror)
            held = 0
        self._held = held

    def _free(self) -> int:
        found = os.statvfs(self._directory)
        # Some blocks are for root alone.
        return found.f_frsize * (found.f_bavail if os.geteuid() else found.f_bfree)
