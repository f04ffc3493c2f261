"""What expressions of a GetMetricData request come to (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from emulator.telemetry.metrics.expressions import (
    Call,
    Listing,
    Name,
    Node,
    Number,
    Operation,
    Text,
    UnusableExpression,
    parse,
)
from emulator.telemetry.metrics.series_math import (
    AGGREGATES,
    EACH,
    PROGRESS,
    Many,
    TimeSeries,
    Value,
    aggregate,
    choose,
    combine,
    fill,
    map_each,
    one_number,
    one_series,
    progress,
)
from emulator.telemetry.metrics.statistics import first_period

GRID_LIMIT = 100_800
"""Points of a series without gaps: as many as an answer may have."""
_FILLERS = ("REPEAT", "LINEAR")
_ORDERS = {"ASC": False, "DESC": True}


class UnknownFunction(UnusableExpression):
    """CloudWatch may have the function; the emulator does not."""


class MetricMath:
    """The metrics and the expressions of one request, by their ids."""

    def __init__(
        self,
        metrics: Mapping[str, TimeSeries],
        expressions: Mapping[str, str],
        start: float,
        end: float,
    ):
        """`start` and `end` are the request's, in epoch seconds."""
        self._metrics = metrics
        self._expressions = expressions
        self._start = start
        self._end = end
        self._values: dict[str, Value] = {}
        self._under_way: list[str] = []
        self._functions: Mapping[str, Callable[[Sequence[Node]], Value]] = {
            "METRICS": self._all_metrics,
            "METRIC_COUNT": self._metric_count,
            "PERIOD": self._period,
            "TIME_SERIES": self._time_series,
            "FILL": self._fill,
            "IF": self._if,
            "FIRST": lambda given: self._item(given, 0),
            "LAST": lambda given: self._item(given, -1),
            "REMOVE_EMPTY": self._remove_empty,
            "SORT": self._sort,
            "SLICE": self._slice,
        }

    def series(self, name: str) -> Many:
        """The one or more series that an expression comes to; raises UnusableExpression."""
        value = self._named(name)
        if isinstance(value, (TimeSeries, tuple)):
            return value if isinstance(value, tuple) else (value,)
        raise UnusableExpression(
            f"The expression {name} comes to a number; it must come to a time series or an array "
            "of time series."
        )

    def _named(self, name: str) -> Value:
        if name in self._metrics:
            return self._metrics[name]
        if name not in self._expressions:
            raise UnusableExpression(f"There is no metric or expression with the Id {name}.")
        if name in self._under_way:
            raise UnusableExpression(f"The expression {name} needs its own result.")
        if name not in self._values:
            self._under_way.append(name)
            self._values[name] = self._value(parse(self._expressions[name]))
            self._under_way.pop()
        return self._values[name]

    def _value(self, node: Node) -> Value:
        match node:
            case Number(value):
                return value
            case Name(name):
                return self._named(name)
            case Operation(operator, left, right):
                return combine(operator, *_of_one_period(self._value(left), self._value(right)))
            case Listing(items):
                values = (self._value(item) for item in items)
                flat = [s for v in values for s in (v if isinstance(v, tuple) else (v,))]
                return tuple(one_series(one) for one in flat)
            case Call(function, given):
                return self._called(function, given)
        raise UnusableExpression("A text can only be an argument of METRICS.")

    def _called(self, function: str, given: Sequence[Node]) -> Value:
        if function in EACH:
            return map_each(function, self._only(function, given))
        if function in AGGREGATES:
            return aggregate(function, *_of_one_period(self._only(function, given)))
        if function in PROGRESS:
            return progress(function, self._only(function, given))
        if function not in self._functions:
            raise UnknownFunction(f"The function {function}")
        return self._functions[function](given)

    def _only(self, function: str, given: Sequence[Node]) -> Value:
        _check_number(function, given, 1)
        return self._value(given[0])

    def _array(self, node: Node) -> Many:
        value = self._value(node)
        return value if isinstance(value, tuple) else (one_series(value),)

    def _all_metrics(self, given: Sequence[Node]) -> Value:
        _check_number("METRICS", given, 0, 1)
        part = given[0].value if given and isinstance(given[0], Text) else ""
        if given and not isinstance(given[0], Text):
            raise UnusableExpression("METRICS takes a text in quotes.")
        return tuple(one for name, one in self._metrics.items() if part in name)

    def _metric_count(self, given: Sequence[Node]) -> Value:
        _check_number("METRIC_COUNT", given, 1)
        return float(len(self._array(given[0])))

    def _period(self, given: Sequence[Node]) -> Value:
        _check_number("PERIOD", given, 1)
        if not isinstance(given[0], Name) or given[0].value not in self._metrics:
            raise UnusableExpression("PERIOD takes the Id of a metric.")
        return float(self._metrics[given[0].value].period)

    def _time_series(self, given: Sequence[Node]) -> Value:
        _check_number("TIME_SERIES", given, 1)
        number = one_number(self._value(given[0]))
        period = min((one.period for one in self._metrics.values()), default=60)
        return TimeSeries("", period, dict.fromkeys(self._grid(period), number))

    def _grid(self, period: int) -> list[float]:
        start = first_period(self._start, period)
        number = math.ceil((self._end - start) / period)
        if number > GRID_LIMIT:
            raise UnusableExpression(
                f"A series without gaps would have {number} points; {GRID_LIMIT} are the most."
            )
        return [start + step * period for step in range(number)]

    def _fill(self, given: Sequence[Node]) -> Value:
        _check_number("FILL", given, 2)
        with_what = given[1]
        value = self._value(given[0])
        filler: float | TimeSeries | str
        if isinstance(with_what, Name) and with_what.value in _FILLERS:
            filler = with_what.value
        else:
            found = self._value(with_what)
            filler = one_series(found) if not isinstance(found, (int, float)) else found
        if isinstance(value, tuple):
            return tuple(fill(one, filler, self._grid(one.period)) for one in value)
        series = one_series(value)
        return fill(series, filler, self._grid(series.period))

    def _if(self, given: Sequence[Node]) -> Value:
        _check_number("IF", given, 2, 3)
        values = _of_one_period(*map(self._value, given))
        return choose(values[0], values[1], values[2] if len(values) == 3 else None)

    def _item(self, given: Sequence[Node], place: int) -> Value:
        _check_number("FIRST and LAST", given, 1)
        array = self._array(given[0])
        if not array:
            raise UnusableExpression("FIRST and LAST need an array that is not empty.")
        return array[place]

    def _remove_empty(self, given: Sequence[Node]) -> Value:
        _check_number("REMOVE_EMPTY", given, 1)
        return tuple(one for one in self._array(given[0]) if one.points)

    def _sort(self, given: Sequence[Node]) -> Value:
        _check_number("SORT", given, 3, 4)
        array, function, order = self._array(given[0]), _keyword(given[1]), _keyword(given[2])
        if function not in ("AVG", "MIN", "MAX", "SUM") or order not in _ORDERS:
            raise UnusableExpression("SORT takes AVG, MIN, MAX or SUM, and ASC or DESC.")
        filled = [one for one in array if one.points]  # the others have nothing to sort by
        filled.sort(key=lambda one: one_number(aggregate(function, one)), reverse=_ORDERS[order])
        ordered = (*filled, *(one for one in array if not one.points))
        return ordered[: self._whole(given[3])] if len(given) == 4 else ordered

    def _slice(self, given: Sequence[Node]) -> Value:
        _check_number("SLICE", given, 2, 3)
        limits = [self._whole(node) for node in given[1:]]
        return self._array(given[0])[slice(*limits, *([None] * (2 - len(limits))))]

    def _whole(self, node: Node) -> int:
        number = one_number(self._value(node))
        if number < 0 or not float(number).is_integer():
            raise UnusableExpression("A whole number is needed there, 0 or more.")
        return int(number)


def labelled(series: Many, label: str) -> Many:
    """The series of an expression: one has its label, several have it before their own."""
    if len(series) == 1:
        return (replace(series[0], label=label),)
    return tuple(replace(one, label=f"{label} {one.label}".strip()) for one in series)


def _keyword(node: Node) -> str:
    return node.value if isinstance(node, Name) else ""


def _check_number(function: str, given: Sequence[Node], *allowed: int) -> None:
    if len(given) not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise UnusableExpression(f"{function} takes {wanted} arguments, not {len(given)}.")


def _of_one_period(*values: Value) -> Sequence[Value]:
    """The values, if their series can be put side by side; raises UnusableExpression."""
    series = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    periods = {one.period for one in series if isinstance(one, TimeSeries)}
    if len(periods) > 1:
        listed = " and ".join(map(str, sorted(periods)))
        raise UnusableExpression(
            f"Metrics of different periods ({listed} seconds) in one expression are not built "
            "into sagemaker-emulator."
        )
    return values
