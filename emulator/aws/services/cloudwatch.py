"""CloudWatch metrics: put, list, and statistics over periods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.aws.services.metric_data import get_metric_data
from emulator.aws.services.metric_reading import (
    InvalidCombination,
    InvalidValue,
    dimensions_of,
    offset_of,
    read,
    statistic_of,
    token_of,
    window,
)
from emulator.model.errors import NotBuilt
from emulator.telemetry.metrics.statistics import Sample, periods
from emulator.telemetry.metrics.store import MetricStore, Series, SeriesQuery

STATISTICS_LIMIT = 1440
"""Data points in an answer of GetMetricStatistics (API reference)."""
LIST_LIMIT = 500
"""Metrics in an answer of ListMetrics (API reference)."""
RECENT_SECONDS = 3 * 3600


def operations(store: MetricStore, clock: Callable[[], float] = time.time) -> Operations:
    """The operations of CloudWatch on these metrics; `clock` gives epoch seconds."""
    return {
        "PutMetricData": partial(_put_metric_data, store, clock),
        "ListMetrics": partial(_list_metrics, store, clock),
        "GetMetricStatistics": partial(_get_metric_statistics, store),
        "GetMetricData": partial(get_metric_data, store),
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
            dimensions_of(datum),
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
    after = offset_of(params["NextToken"]) if params.get("NextToken") else 0
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
        "NextToken": token_of(page[-1][0]) if len(found) > LIST_LIMIT else None,
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
    wanted = {name: statistic_of(name, "ExtendedStatistics") for name in (*plain, *extended)}
    length = params["Period"]
    start, end = window(params, length)
    number = math.ceil((end - start) / length)
    if number > STATISTICS_LIMIT:
        raise InvalidCombination(
            f"You have requested up to {number:,} datapoints, which exceeds the limit of "
            f"{STATISTICS_LIMIT:,}. You may reduce the datapoints requested by increasing "
            "Period, or decreasing the time range."
        )
    points = []
    limits = (start, end, length)
    found = read(store, call.scope, params, params.get("Unit"), limits, wanted)
    for unit, samples in found.items():
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
