"""A state directory that other users of the machine cannot look into."""

from __future__ import annotations

import logging
import stat
from collections.abc import Sequence
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_log = logging.getLogger(__name__)


def make_private(directory: Path, marks: Sequence[str]) -> None:
    """Make the directory, or close an earlier one: training data and models lie in it.

    One that somebody uses for other things, too, is left as it is, with a warning: it is not
    empty and has nothing that is called like one of `marks`. Raises OSError if it cannot be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(directory.stat().st_mode)
    if not mode & _OTHERS:
        return
    try:
        names = {path.name for path in directory.iterdir()}
        if names and names.isdisjoint(marks):
            raise PermissionError(0, "it holds other things, too")
        directory.chmod(mode & ~_OTHERS)
    except OSError as error:
        _log.warning("other users may look into %s: %s", directory, error.strerror)
