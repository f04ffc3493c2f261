"""Arithmetic with series of data points, and what functions make of them (pure).

What becomes of missing points is documented (CloudWatch user guide, "Metric math syntax and
functions"); a point whose value would be no finite number is dropped.
"""

from __future__ import annotations

import math
import operator as operators
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TypeAlias

from emulator.telemetry.metrics.expressions import UnusableExpression

Points: TypeAlias = Mapping[float, float]


@dataclass(frozen=True)
class TimeSeries:
    """Values by the epoch second at which their periods start, in this order."""

    label: str
    period: int
    """Seconds."""
    points: Points


Many: TypeAlias = "tuple[TimeSeries, ...]"
Value: TypeAlias = "float | TimeSeries | Many"
"""A number that is not one (NaN) has no points."""

OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": operators.add,
    "-": operators.sub,
    "*": operators.mul,
    "/": operators.truediv,
    "^": math.pow,
    "==": operators.eq,
    "!=": operators.ne,
    "<=": operators.le,
    ">=": operators.ge,
    "<": operators.lt,
    ">": operators.gt,
    "&&": lambda left, right: left != 0 and right != 0,
    "||": lambda left, right: left != 0 or right != 0,
}
EACH: Mapping[str, Callable[[float], float]] = {
    "ABS": abs,
    "CEIL": math.ceil,
    "FLOOR": math.floor,
    "LOG": math.log,
    "LOG10": math.log10,
}
"""Functions of each value."""


def combine(operator: str, left: Value, right: Value) -> Value:
    """An operator between two values; what one series of two lacks counts as 0."""
    function = OPERATORS[operator]
    if isinstance(left, tuple) and isinstance(right, tuple):
        raise UnusableExpression(f"The operator {operator} is not for two arrays.")
    if isinstance(left, tuple):
        return tuple(one_series(combine(operator, one, right)) for one in left)
    if isinstance(right, tuple):
        return tuple(one_series(combine(operator, left, one)) for one in right)
    if isinstance(left, TimeSeries) and isinstance(right, TimeSeries):
        first, second = left.points, right.points
        times = sorted({*first, *second})
        pairs = ((at, first.get(at, 0.0), second.get(at, 0.0)) for at in times)
        return _with(left, ((at, _finite(function, a, b)) for at, a, b in pairs))
    if isinstance(left, TimeSeries):
        other = float(one_number(right))
        return _with(left, ((at, _finite(function, v, other)) for at, v in left.points.items()))
    if isinstance(right, TimeSeries):
        return _with(right, ((at, _finite(function, left, v)) for at, v in right.points.items()))
    return _finite(function, left, right)


def map_each(name: str, value: Value) -> Value:
    """ABS, CEIL, FLOOR, LOG or LOG10 of every point."""
    if isinstance(value, tuple):
        return tuple(one_series(map_each(name, one)) for one in value)
    if isinstance(value, TimeSeries):
        return _with(value, ((at, _finite(EACH[name], v)) for at, v in value.points.items()))
    return _finite(EACH[name], value)


def aggregate(name: str, value: Value) -> Value:
    """Of one series a number; of an array a series, made of the values of each moment."""
    if isinstance(value, TimeSeries):
        return _AGGREGATES[name](list(value.points.values()), len(value.points))
    if not isinstance(value, tuple):
        raise UnusableExpression(f"{name} needs a series or an array of series.")
    if not value:
        return float("nan")
    moments: dict[float, list[float]] = {}
    for one in value:
        for at, number in one.points.items():
            moments.setdefault(at, []).append(number)
    function = _AGGREGATES[name]
    return _with(value[0], ((at, function(moments[at], len(value))) for at in sorted(moments)))


def _average(values: Sequence[float], number: int) -> float:
    # Of an array, what a series lacks counts as 0.
    return math.fsum(values) / number if number else float("nan")


_AGGREGATES: Mapping[str, Callable[[Sequence[float], int], float]] = {
    "AVG": _average,
    "SUM": lambda values, _: math.fsum(values),
    "MIN": lambda values, _: min(values, default=float("nan")),
    "MAX": lambda values, _: max(values, default=float("nan")),
    "DATAPOINT_COUNT": lambda values, _: float(len(values)),
}
AGGREGATES = tuple(_AGGREGATES)


def progress(name: str, value: Value) -> Value:
    """DIFF, DIFF_TIME and RATE, from each point to the next, and RUNNING_SUM."""
    if isinstance(value, tuple):
        return tuple(one_series(progress(name, one)) for one in value)
    series = one_series(value)
    if name == "RUNNING_SUM":
        return _with(series, zip(series.points, accumulate(series.points.values()), strict=True))
    steps = pairwise(series.points.items())
    return _with(series, ((at, _STEPS[name](v - u, at - was)) for (was, u), (at, v) in steps))


_STEPS: Mapping[str, Callable[[float, float], float]] = {
    "DIFF": lambda difference, _: difference,
    "DIFF_TIME": lambda _, seconds: seconds,
    "RATE": lambda difference, seconds: difference / seconds,
}
PROGRESS = (*_STEPS, "RUNNING_SUM")


def choose(condition: Value, yes: Value, no: Value | None) -> Value:
    """IF: 0 is false, and a moment without a condition has no point."""
    if isinstance(condition, tuple) or isinstance(yes, tuple) or isinstance(no, tuple):
        raise UnusableExpression("IF takes series and numbers, no arrays.")
    if not isinstance(condition, TimeSeries):
        if condition != 0:
            return yes
        return no if no is not None else replace(one_series(yes), points={})
    found = {}
    for at, number in condition.points.items():
        branch, missing = (yes, 0.0) if number != 0 else (no, None)
        value = branch.points.get(at, missing) if isinstance(branch, TimeSeries) else branch
        if value is not None:
            found[at] = value
    return _with(condition, found.items())


def fill(series: TimeSeries, filler: float | TimeSeries | str, grid: Iterable[float]) -> TimeSeries:
    """FILL: with a number, another series, REPEAT (the value before) or LINEAR (in between).

    `grid` has the start of every period.
    """
    known, times = series.points, list(series.points)

    def missing(at: float) -> float | None:
        after = bisect(times, at)
        if isinstance(filler, TimeSeries):
            return filler.points.get(at)
        if not isinstance(filler, str):
            return filler
        if after == 0 or (filler == "LINEAR" and after == len(times)):
            return None
        before = times[after - 1]
        if filler == "REPEAT":
            return known[before]
        share = (at - before) / (times[after] - before)
        return known[before] + share * (known[times[after]] - known[before])

    filled = ((at, known[at] if at in known else missing(at)) for at in grid)
    return _with(series, ((at, value) for at, value in filled if value is not None))


def one_series(value: Value) -> TimeSeries:
    """Raises UnusableExpression for what is not a single series."""
    if not isinstance(value, TimeSeries):
        raise UnusableExpression("A single time series is needed there.")
    return value


def one_number(value: Value) -> float:
    """Raises UnusableExpression for what is no number."""
    if not isinstance(value, (int, float)):
        raise UnusableExpression("A number is needed there.")
    return value


def _finite(function: Callable[..., float], *values: float) -> float:
    try:
        return float(function(*values))
    except (ArithmeticError, ValueError):  # such as division by zero, the logarithm of nothing
        return float("nan")


def _with(series: TimeSeries, points: Iterable[tuple[float, float]]) -> TimeSeries:
    return replace(series, points={at: value for at, value in points if math.isfinite(value)})
