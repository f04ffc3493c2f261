"""What becomes of samples in a period: pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{0,10})?|100)")


class Sample(NamedTuple):
    """One or more measured values: how many, and what they come to together."""

    at: float
    """Epoch seconds."""
    number: float
    total: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, value: float, at: float, count: float = 1) -> Sample:
        """The same value, measured `count` times."""
        return cls(at, count, value * count, value, value)


@dataclass(frozen=True)
class Period:
    """The samples of one period."""

    start: float
    samples: tuple[Sample, ...]


Statistic = Callable[[Sequence[Sample]], "float | None"]
"""The value for a period with at least one sample; None if these samples have none."""


def first_period(start: float, length: int) -> float:
    """Where periods of this length are counted from when data is asked for from `start` on.

    The start is rounded down to the minute, or to the period where that is shorter (API
    reference, GetMetricStatistics).
    """
    step = min(length, 60)
    return start // step * step


def periods(samples: Iterable[Sample], start: float, length: int) -> list[Period]:
    """Samples from `start` on, by periods of `length` seconds; empty periods are left out."""
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(int((sample.at - start) // length), []).append(sample)
    return [
        Period(start + number * length, tuple(group)) for number, group in sorted(groups.items())
    ]


def statistic(name: str) -> Statistic | None:
    """A statistic by its name in the API: Average, Sum, …, p90, p99.9; None for others."""
    if match := _PERCENTILE.fullmatch(name):
        share = float(match[1]) / 100
        return lambda samples: percentile(samples, share)
    return _PLAIN.get(name)


def is_of_sums(name: str) -> bool:
    """Whether the statistic is the same of samples that were put together as of each."""
    return name in _PLAIN


def percentile(samples: Sequence[Sample], share: float) -> float | None:
    """The smallest value that at least this share of all values does not exceed.

    None when several values are known by their extremes alone: CloudWatch has no percentiles
    of such statistic sets either (CloudWatch user guide, "Percentiles").
    """
    if any(sample.minimum != sample.maximum for sample in samples):
        return None
    ordered = sorted((sample.minimum, sample.number) for sample in samples)
    wanted = share * math.fsum(count for _, count in ordered)
    seen = 0.0
    for value, count in ordered:
        seen += count
        if seen >= wanted:
            return value
    return ordered[-1][0]


def _count(samples: Sequence[Sample]) -> float:
    return math.fsum(sample.number for sample in samples)


def _sum(samples: Sequence[Sample]) -> float:
    return math.fsum(sample.total for sample in samples)


def _average(samples: Sequence[Sample]) -> float:
    # Rounding must not carry a mean of equal values beyond them.
    mean = _sum(samples) / _count(samples)
    return min(max(mean, _minimum(samples)), _maximum(samples))


def _minimum(samples: Sequence[Sample]) -> float:
    return min(sample.minimum for sample in samples)


def _maximum(samples: Sequence[Sample]) -> float:
    return max(sample.maximum for sample in samples)


_PLAIN: dict[str, Statistic] = {
    "SampleCount": _count,
    "Average": _average,
    "Sum": _sum,
    "Minimum": _minimum,
    "Maximum": _maximum,
}
