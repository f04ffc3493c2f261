"""Whether the object store answers, and when it was last seen not to."""

from __future__ import annotations

import time
from collections.abc import Callable


class Availability:
    """What is known of one store; any thread may note and ask."""

    def __init__(self, down: Callable[[], str] = str, now: Callable[[], float] = time.time):
        """`down` says why the store does not answer at this moment ("" if nothing is known)."""
        self._down = down
        self._now = now
        self._seen: tuple[float, str] = (0.0, "")

    def problem(self) -> str:
        """Why the store does not answer now; "" while it does, as far as is known."""
        return self._down()

    def note(self, reason: str) -> None:
        """The store did not answer just now."""
        self._seen = (self._now(), reason)

    def away_since(self, moment: float) -> str:
        """Why the store did not answer at some time after `moment` (epoch seconds), or "".

        Work that failed soon after may have failed for want of it.
        """
        at, reason = self._seen
        return self._down() or (reason if at >= moment else "")
