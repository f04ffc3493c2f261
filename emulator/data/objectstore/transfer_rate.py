"""How far a long transfer is, in words for people. Pure: whoever asks brings the time."""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = ("bytes", "KB", "MB", "GB", "TB")
_STEP = 1000


@dataclass(frozen=True)
class Pace:
    """A transfer at one moment."""

    done: int
    """Bytes."""
    total: int
    seconds: float
    """Since it began."""

    @property
    def rate(self) -> float:
        """Bytes a second on average, 0 before the first."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None while nothing is known."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        """`1.2 GB of 4.0 GB, 120 MB/s, 23 s left`"""
        words = f"{size(self.done)} of {size(self.total)}, {size(self.rate)}/s"
        left = self.seconds_left
        return words if left is None else f"{words}, {duration(left)} left"


def size(count: float) -> str:
    """Bytes as people say them: three digits and a decimal unit."""
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    digits = 1 if unit and value < 10 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`"""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
