"""The time as jobs see it; tests bring their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Two ways to tell the time, in seconds."""

    now: Callable[[], float] = time.time
    """Since the epoch: what is shown and kept."""
    monotonic: Callable[[], float] = time.monotonic
    """For deadlines: never set back."""
