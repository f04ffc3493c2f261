"""An engine that is away is waited for: what it runs goes on, and holds what it holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from docker.errors import APIError, DockerException

from emulator.drivers.base import Unreachable
from emulator.drivers.docker.engine import ENGINE_GONE

REFUSAL_SECONDS = 60.0
"""How long an engine may answer with errors, as one does that is starting."""
_PAUSE_SECONDS = 1.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def patiently(
    ask: Callable[[], _T],
    closing: Event,
    refusal_seconds: float = REFUSAL_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    pause_seconds: float = _PAUSE_SECONDS,
) -> _T:
    """What `ask` returns, however often and for however long it has to be asked.

    `closing` is set when the emulator ends: an engine that is away then raises Unreachable.
    An engine that answers with an error is asked again for `refusal_seconds`; then the
    APIError is raised.
    """
    refused_since: float | None = None
    away = False
    while True:
        try:
            answer = ask()
        except APIError as error:
            now = monotonic()
            refused_since = now if refused_since is None else refused_since
            if now - refused_since >= refusal_seconds or closing.is_set():
                raise
            _log.warning("The Docker engine is asked again: %s", error)
        except (DockerException, *ENGINE_GONE) as error:
            refused_since = None
            if not away:
                _log.warning("The Docker engine does not answer, and is waited for: %s", error)
            away = True
            if closing.is_set():
                raise Unreachable(f"The Docker engine does not answer: {error}") from error
        else:
            if away:
                _log.info("The Docker engine answers again")
            return answer
        closing.wait(pause_seconds)
