"""What a check of the doctor finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.settings import Settings


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do when it is not ok."""
    needed: bool = True
    """Whether the emulator, with these settings, cannot do without it."""


Check = Callable[[Settings], Finding]
