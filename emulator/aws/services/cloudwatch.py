"""CloudWatch metrics: put, list, and statistics over periods."""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.metrics.statistics import Sample, Statistic, periods, statistic
from emulator.metrics.store import Dimensions, MetricStore, Series, SeriesQuery
from emulator.model.errors import ApiError, NotBuilt
from emulator.model.scope import Scope

STATISTICS_LIMIT = 1440
"""Data points in an answer of GetMetricStatistics (API reference)."""
DATA_LIMIT = 100_800
"""Data points in an answer of GetMetricData (API reference)."""
LIST_LIMIT = 500
"""Metrics in an answer of ListMetrics (API reference)."""
RECENT_SECONDS = 3 * 3600
_MINUTE = 60
_MAX_PERIOD = 2**31 - 1


class InvalidValue(ApiError):
    """A parameter has a value that it cannot have."""

    code = "InvalidParameterValue"


class InvalidCombination(ApiError):
    """Parameters do not go together."""

    code = "InvalidParameterCombination"


def operations(store: MetricStore, clock: Callable[[], float] = time.time) -> Operations:
    """The operations of CloudWatch on these metrics; `clock` gives epoch seconds."""
    return {
        "PutMetricData": partial(_put_metric_data, store, clock),
        "ListMetrics": partial(_list_metrics, store, clock),
        "GetMetricStatistics": partial(_get_metric_statistics, store),
        "GetMetricData": partial(_get_metric_data, store),
    }


# --- PutMetricData -------------------------------------------------------------------------


def _put_metric_data(store: MetricStore, clock: Callable[[], float], call: Call) -> None:
    """Keep values; a metric is there as soon as it has one."""
    if "EntityMetricData" in call.params:
        raise NotBuilt("PutMetricData with EntityMetricData is not built into sagemaker-emulator.")
    now = clock()
    samples = []
    for number, datum in enumerate(call.params.get("MetricData", ()), start=1):
        where = f"MetricData.member.{number}"
        series = Series(
            call.params["Namespace"],
            datum["MetricName"],
            _dimensions(datum),
            datum.get("Unit", "None"),
        )
        at = datum.get("Timestamp", now)
        samples += [(series, sample) for sample in _samples(datum, at, where)]
    store.put(call.scope, samples)


def _samples(datum: Mapping[str, Any], at: float, where: str) -> list[Sample]:
    if (summary := datum.get("StatisticValues")) is not None:
        sample = Sample(
            at,
            *(_number(summary[key], where) for key in ("SampleCount", "Sum", "Minimum", "Maximum")),
        )
        if sample.number <= 0 or sample.minimum > sample.maximum:
            raise InvalidValue(f"The value for the parameter {where}.StatisticValues is invalid.")
        return [sample]
    values = datum.get("Values", [])
    counts = datum.get("Counts", [1] * len(values))
    if len(counts) != len(values):
        raise InvalidValue(
            f"The parameters {where}.Values and {where}.Counts must be of the same size."
        )
    if "Value" in datum:
        values, counts = [*values, datum["Value"]], [*counts, 1]
    if not values:
        raise InvalidCombination(
            f"At least one of the parameters {where}.Value, {where}.Values and "
            f"{where}.StatisticValues must be specified."
        )
    if any(not count > 0 for count in counts):
        raise InvalidValue(f"The values for the parameter {where}.Counts must be positive.")
    return [
        Sample.of(_number(value, where), at, _number(count, where))
        for value, count in zip(values, counts, strict=True)
    ]


def _number(value: float, where: str) -> float:
    # Special values and those beyond 2**360 are not supported (API reference, MetricDatum).
    if not math.isfinite(value) or abs(value) > 2.0**360:
        raise InvalidValue(f"The value {value} for parameter {where}.Value is invalid.")
    return value


# --- ListMetrics ---------------------------------------------------------------------------


def _list_metrics(store: MetricStore, clock: Callable[[], float], call: Call) -> Mapping[str, Any]:
    """The metrics that have these dimensions among theirs, oldest first."""
    params = call.params
    query = SeriesQuery(
        params.get("Namespace"),
        params.get("MetricName"),
        tuple((item["Name"], item.get("Value")) for item in params.get("Dimensions", ())),
        clock() - RECENT_SECONDS if "RecentlyActive" in params else None,
    )
    after = _offset(params["NextToken"]) if params.get("NextToken") else 0
    found = store.series(call.scope, query, after, LIST_LIMIT + 1)
    page = found[:LIST_LIMIT]
    # Units are no part of what a metric is: one that has two of them is still one.
    metrics = dict.fromkeys((item.namespace, item.name, item.dimensions) for _, item in page)
    return {
        "Metrics": [
            {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
            }
            for namespace, name, dimensions in metrics
        ],
        "NextToken": _token(page[-1][0]) if len(found) > LIST_LIMIT else None,
    }


# --- GetMetricStatistics -------------------------------------------------------------------


def _get_metric_statistics(store: MetricStore, call: Call) -> Mapping[str, Any]:
    """One metric's data points, one a period and unit."""
    params = call.params
    plain, extended = params.get("Statistics", []), params.get("ExtendedStatistics", [])
    if not plain and not extended:
        raise InvalidCombination(
            "At least one of the parameters Statistics and ExtendedStatistics must be specified."
        )
    wanted = {name: _statistic(name, "ExtendedStatistics") for name in (*plain, *extended)}
    length = params["Period"]
    start, end = _window(params, length)
    number = math.ceil((end - start) / length)
    if number > STATISTICS_LIMIT:
        raise InvalidCombination(
            f"You have requested up to {number:,} datapoints, which exceeds the limit of "
            f"{STATISTICS_LIMIT:,}. You may reduce the datapoints requested by increasing "
            "Period, or decreasing the time range."
        )
    points = []
    for unit, samples in _read(store, call.scope, params, params.get("Unit"), start, end).items():
        for period in periods(samples, start, length):
            values = {name: function(period.samples) for name, function in wanted.items()}
            points.append(
                {
                    "Timestamp": period.start,
                    "Unit": unit,
                    **{name: values[name] for name in plain},
                    "ExtendedStatistics": {
                        name: values[name] for name in extended if values[name] is not None
                    }
                    or None,
                }
            )
    return {"Label": params["MetricName"], "Datapoints": points}


# --- GetMetricData -------------------------------------------------------------------------


def _get_metric_data(store: MetricStore, call: Call) -> Mapping[str, Any]:
    """The data points of several metrics, newest first unless asked otherwise."""
    params = call.params
    queries = params["MetricDataQueries"]
    _check_queries(queries)
    offset = _offset(params["NextToken"]) if params.get("NextToken") else 0
    room = min(params.get("MaxDatapoints", DATA_LIMIT), DATA_LIMIT)
    if room < 1:
        raise ApiError("MaxDatapoints must be at least 1.", code="ValidationError")
    left, results = offset, []
    for query in queries:
        if not query.get("ReturnData", True):
            continue
        points = _points(store, call, query)
        chosen = points[left : left + room]
        left = max(left - len(points), 0)
        room -= len(chosen)
        offset += len(chosen)
        results.append((query, chosen, len(points)))
    total = sum(length for _, _, length in results)
    return {
        "MetricDataResults": [
            {
                "Id": query["Id"],
                "Label": query.get("Label") or query["MetricStat"]["Metric"].get("MetricName"),
                "Timestamps": [at for at, _ in chosen],
                "Values": [value for _, value in chosen],
                "StatusCode": "PartialData" if offset < total else "Complete",
            }
            for query, chosen, _ in results
        ],
        "NextToken": _token(offset) if offset < total else None,
        "Messages": [],
    }


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    names = [query["Id"] for query in queries]
    if len(set(names)) < len(names):
        raise ApiError(
            "The value for parameter MetricDataQueries is invalid: an Id is used more than once.",
            code="ValidationError",
        )
    for query in queries:
        if "Expression" in query:
            raise NotBuilt(
                f"The query {query['Id']} is an expression; metric math and Metrics Insights are "
                "not built into sagemaker-emulator. Ask for the metrics themselves (MetricStat)."
            )
        metric = query.get("MetricStat", {}).get("Metric", {})
        if not {"Namespace", "MetricName"} <= metric.keys():
            raise ApiError(
                f"The query {query['Id']} must have either an Expression or a MetricStat with "
                "Namespace and MetricName.",
                code="ValidationError",
            )


def _points(store: MetricStore, call: Call, query: Mapping[str, Any]) -> list[tuple[float, float]]:
    asked = query["MetricStat"]
    function = _statistic(asked["Stat"], "Stat")
    start, end = _window(call.params, asked["Period"])
    found = _read(store, call.scope, asked["Metric"], asked.get("Unit"), start, end)
    samples = [sample for values in found.values() for sample in values]
    points = [
        (period.start, value)
        for period in periods(samples, start, asked["Period"])
        if (value := function(period.samples)) is not None
    ]
    if call.params.get("ScanBy", "TimestampDescending") == "TimestampDescending":
        points.reverse()
    return points


# --- shared --------------------------------------------------------------------------------


def _read(
    store: MetricStore,
    scope: Scope,
    metric: Mapping[str, Any],
    unit: str | None,
    start: float,
    end: float,
) -> dict[str, list[Sample]]:
    series = Series(metric["Namespace"], metric["MetricName"], _dimensions(metric), unit or "None")
    return store.samples(scope, series, unit is None, start, end)


def _dimensions(holder: Mapping[str, Any]) -> Dimensions:
    return tuple((item["Name"], item["Value"]) for item in holder.get("Dimensions", ()))


def _statistic(name: str, parameter: str) -> Statistic:
    function = statistic(name)
    if function is None:
        raise InvalidValue(
            f"The value {name} for parameter {parameter} is not supported: sagemaker-emulator has "
            "SampleCount, Average, Sum, Minimum, Maximum and percentiles such as p90."
        )
    return function


def _window(params: Mapping[str, Any], length: int) -> tuple[float, float]:
    """From where periods are counted, and the first moment that is not asked for any more.

    The start is rounded down to the minute, or to the period where that is shorter (API
    reference, GetMetricStatistics). Raises InvalidValue.
    """
    if (length not in (1, 5, 10, 20, 30) and length % _MINUTE) or length > _MAX_PERIOD:
        raise InvalidValue(
            "The value for parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60."
        )
    start, end = params["StartTime"], params["EndTime"]
    if start >= end:
        raise InvalidValue("The parameter StartTime must be less than the parameter EndTime.")
    step = min(length, _MINUTE)
    return start // step * step, end


def _token(number: int) -> str:
    return base64.b64encode(str(number).encode()).decode("ascii")


def _offset(token: str) -> int:
    try:
        number = int(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        number = -1
    if not 0 <= number < 2**62:
        raise ApiError("The next token specified is invalid.", code="InvalidNextToken")
    return number
