"""A state directory that other users of the machine cannot look into."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_log = logging.getLogger(__name__)


def make_private(directory: Path, mark: str) -> None:
    """Make the directory, or close an earlier one: training data and models lie in it.

    One that somebody uses for other things, too, is left as it is, with a warning: it is not
    empty and has no file called `mark`. Raises OSError if it cannot be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(directory.stat().st_mode)
    if not mode & _OTHERS:
        return
    try:
        if not (directory / mark).exists() and any(directory.iterdir()):
            raise PermissionError(0, "it holds other things, too")
        directory.chmod(mode & ~_OTHERS)
    except OSError as error:
        _log.warning("other users may look into %s: %s", directory, error.strerror)
