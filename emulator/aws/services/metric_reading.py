"""What the reads of CloudWatch metrics have in common."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from emulator.model.errors import ApiError
from emulator.model.scope import Scope
from emulator.telemetry.metrics.statistics import (
    Sample,
    Statistic,
    first_period,
    is_of_sums,
    statistic,
)
from emulator.telemetry.metrics.store import Dimensions, MetricStore, Series

_MINUTE = 60
_MAX_PERIOD = 2**31 - 1


class InvalidValue(ApiError):
    """A parameter has a value that it cannot have."""

    code = "InvalidParameterValue"


class InvalidCombination(ApiError):
    """Parameters do not go together."""

    code = "InvalidParameterCombination"


def read(
    store: MetricStore,
    scope: Scope,
    metric: Mapping[str, Any],
    unit: str | None,
    window: tuple[float, float, int],
    statistics: Iterable[str],
) -> dict[str, list[Sample]]:
    """The samples of a metric by unit, as far as these statistics need them apart.

    `window` is the first moment, the one that is not asked for any more, and the length of a
    period. Without a unit all units count.
    """
    series = Series(
        metric["Namespace"], metric["MetricName"], dimensions_of(metric), unit or "None"
    )
    start, end, length = window
    if all(map(is_of_sums, statistics)):
        return store.sums(scope, series, unit is None, start, end, length)
    return store.samples(scope, series, unit is None, start, end)


def dimensions_of(holder: Mapping[str, Any]) -> Dimensions:
    """The Dimensions member of a metric or a request."""
    return tuple((item["Name"], item["Value"]) for item in holder.get("Dimensions", ()))


def statistic_of(name: str, parameter: str) -> Statistic:
    """A statistic by its name; raises InvalidValue, which names the parameter."""
    function = statistic(name)
    if function is None:
        raise InvalidValue(
            f"The value {name} for parameter {parameter} is not supported: sagemaker-emulator has "
            "SampleCount, Average, Sum, Minimum, Maximum and percentiles such as p90."
        )
    return function


def window(params: Mapping[str, Any], length: int) -> tuple[float, float]:
    """From where periods are counted, and the first moment that is not asked for any more.

    Raises InvalidValue.
    """
    if (length not in (1, 5, 10, 20, 30) and length % _MINUTE) or length > _MAX_PERIOD:
        raise InvalidValue(
            "The value for parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60."
        )
    start, end = params["StartTime"], params["EndTime"]
    if start >= end:
        raise InvalidValue("The parameter StartTime must be less than the parameter EndTime.")
    return first_period(start, length), end


def token_of(number: int) -> str:
    """A NextToken that stands for a number."""
    return base64.b64encode(str(number).encode()).decode("ascii")


def offset_of(token: str) -> int:
    """The number that a NextToken stands for; raises ApiError."""
    try:
        number = int(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        number = -1
    if not 0 <= number < 2**62:
        raise ApiError("The next token specified is invalid.", code="InvalidNextToken")
    return number
