"""Files that S3 did not take, moved to where they outlive their job."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from emulator.model.job import JobSpec

_log = logging.getLogger(__name__)


def keep(below: Path, spec: JobSpec, kind: str, roots: Mapping[str, Path]) -> Path:
    """Move a directory of each instance to `<below>/<account>/<region>/<job>/<host>/<kind>`.

    An empty directory takes each one's place, so that the job can go on ending. Returns the
    job's directory below `below`. What cannot be moved stays, with a line in the log.
    """
    place = below / spec.scope.account / spec.scope.region / spec.name
    for host, root in roots.items():
        if not root.is_dir():
            continue
        target = place / host / kind
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            root.rename(target)
            root.mkdir()
        except OSError as error:
            _log.warning("%s could not be kept in %s: %s", root, target, error)
    return place
