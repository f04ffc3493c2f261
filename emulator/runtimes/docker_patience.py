"""How long one waits for an engine that is being restarted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from docker.errors import DockerException

from emulator.model.errors import InternalServerError
from emulator.runtimes.docker_engine import ENGINE_GONE
from emulator.runtimes.docker_watch import PATIENCE_SECONDS

_PAUSE_SECONDS = 1.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def patiently(
    ask: Callable[[], _T],
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> _T:
    """What `ask` returns, however often it has to be asked within the engine's patience.

    Raises InternalServerError when that is over.
    """
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (DockerException, *ENGINE_GONE) as error:
            if monotonic() >= deadline:
                raise InternalServerError(f"The Docker engine does not answer: {error}") from error
            _log.warning("The Docker engine is asked again: %s", error)
        pause(_PAUSE_SECONDS)
