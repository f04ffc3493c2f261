"""GetMetricData: the data points of several metrics, and of expressions on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.aws.operation import Call
from emulator.aws.services.metric_reading import offset_of, read, statistic_of, token_of, window
from emulator.model.errors import ApiError, NotBuilt
from emulator.telemetry.metrics.expressions import UnusableExpression
from emulator.telemetry.metrics.metric_math import MetricMath, UnknownFunction, labelled
from emulator.telemetry.metrics.series_math import Many, TimeSeries
from emulator.telemetry.metrics.statistics import periods
from emulator.telemetry.metrics.store import MetricStore

DATA_LIMIT = 100_800
"""Data points in an answer (API reference)."""

_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_INSIGHTS = re.compile(r"\s*SELECT\s", re.IGNORECASE)
_Point = tuple[float, float]


class InvalidQuery(ApiError):
    """The queries make no sense, each by itself or together."""

    code = "ValidationError"


@dataclass(frozen=True)
class _Result:
    """One series that is asked for."""

    id: str
    label: str
    points: Sequence[_Point]


def get_metric_data(store: MetricStore, call: Call) -> Mapping[str, Any]:
    """The data points, newest first unless asked otherwise; series after series."""
    params = call.params
    queries = params["MetricDataQueries"]
    _check_queries(queries)
    offset = offset_of(params["NextToken"]) if params.get("NextToken") else 0
    room = min(params.get("MaxDatapoints", DATA_LIMIT), DATA_LIMIT)
    if room < 1:
        raise InvalidQuery("MaxDatapoints must be at least 1.")
    left, results = offset, []
    found = list(_results(store, call, queries))
    for result in found:
        chosen = result.points[left : left + room]
        left = max(left - len(result.points), 0)
        room -= len(chosen)
        offset += len(chosen)
        results.append((result, chosen))
    total = sum(len(result.points) for result in found)
    return {
        "MetricDataResults": [
            {
                "Id": result.id,
                "Label": result.label,
                "Timestamps": [at for at, _ in chosen],
                "Values": [value for _, value in chosen],
                "StatusCode": "PartialData" if offset < total else "Complete",
            }
            for result, chosen in results
        ],
        "NextToken": token_of(offset) if offset < total else None,
        "Messages": [],
    }


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    names = [query["Id"] for query in queries]
    if len(set(names)) < len(names):
        raise InvalidQuery(
            "The value for parameter MetricDataQueries is invalid: an Id is used more than once."
        )
    for query in queries:
        if not _ID.fullmatch(query["Id"]):
            raise InvalidQuery(
                f"The value {query['Id']} for parameter Id is invalid: it must start with a "
                "lowercase letter, and have only letters, digits and underscores."
            )
        metric = query.get("MetricStat", {}).get("Metric", {})
        has_metric = {"Namespace", "MetricName"} <= metric.keys()
        if ("Expression" in query) == has_metric:
            raise InvalidQuery(
                f"The query {query['Id']} must have either an Expression or a MetricStat with "
                "Namespace and MetricName."
            )
        if _INSIGHTS.match(query.get("Expression", "")):
            raise NotBuilt(
                f"The query {query['Id']} is one of Metrics Insights, which are not built into "
                "sagemaker-emulator. Ask for the metrics themselves (MetricStat)."
            )


def _results(
    store: MetricStore, call: Call, queries: Sequence[Mapping[str, Any]]
) -> Iterator[_Result]:
    backwards = call.params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    metrics = {
        query["Id"]: _metric(store, call, query) for query in queries if "Expression" not in query
    }
    expressions = {query["Id"]: query["Expression"] for query in queries if "Expression" in query}
    maths = MetricMath(metrics, expressions, call.params["StartTime"], call.params["EndTime"])
    for query in queries:
        if not query.get("ReturnData", True):
            continue
        name = query["Id"]
        series = (metrics[name],) if name in metrics else _worked_out(maths, query)
        for one in series:
            points = list(one.points.items())
            yield _Result(name, one.label, points[::-1] if backwards else points)


def _metric(store: MetricStore, call: Call, query: Mapping[str, Any]) -> TimeSeries:
    asked = query["MetricStat"]
    function = statistic_of(asked["Stat"], "Stat")
    length = asked["Period"]
    start, end = window(call.params, length)
    found = read(
        store,
        call.scope,
        asked["Metric"],
        asked.get("Unit"),
        (start, end, length),
        [asked["Stat"]],
    )
    samples = [sample for values in found.values() for sample in values]
    points = {
        period.start: value
        for period in periods(samples, start, length)
        if (value := function(period.samples)) is not None
    }
    return TimeSeries(query.get("Label") or asked["Metric"]["MetricName"], length, points)


def _worked_out(maths: MetricMath, query: Mapping[str, Any]) -> Many:
    name = query["Id"]
    try:
        return labelled(maths.series(name), query.get("Label", name))
    except UnknownFunction as error:
        raise NotBuilt(
            f"{error} in the query {name} is not built into sagemaker-emulator; docs/metrics.md "
            "names those that are."
        ) from error
    except UnusableExpression as error:
        raise InvalidQuery(f"Error in expression '{name}': {error}") from error
