"""Going on while the object store is down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from emulator.data.objectstore.objects import StoreError

PATIENCE = 90.0
"""Seconds of trouble after which an upload is given up; a store may be down for a minute."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


def persist(
    action: Callable[[], _Result],
    patience: float = PATIENCE,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _Result:
    """Do something until it works, or the store has been in trouble for `patience` seconds.

    Raises StoreError: at once if trying again cannot help, else the last one. An attempt that
    went well for longer than that, up to the request that failed, starts a new count.
    """
    trouble_since: float | None = None
    pause = _FIRST_PAUSE
    while True:
        began = monotonic()
        try:
            return action()
        except StoreError as error:
            now = monotonic()
            failing_since = now - error.seconds
            if trouble_since is None or failing_since - began > patience:
                trouble_since, pause = failing_since, _FIRST_PAUSE
            if not error.transient or now - trouble_since >= patience:
                raise
            _log.info("again in %.1f s: %s", pause, error)
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
