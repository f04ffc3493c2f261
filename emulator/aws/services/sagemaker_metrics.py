"""SageMaker Metrics: values of trial components, put and got in batches."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.telemetry.metrics.store import MetricStore, TrialValue

_SECONDS = {"OneMinute": 60, "FiveMinute": 300, "OneHour": 3600}
_MAX_STEP = 2**31 - 1
"""Steps are integers of 32 bits."""
_MAX_VALUE = 2.0**360
"""CloudWatch's limit (API reference, MetricDatum); none is documented here."""
_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Min": min,
    "Max": max,
    "Avg": statistics.fmean,
    "Count": len,
    "StdDev": statistics.pstdev,
    "Last": lambda values: values[-1],
}


def operations(store: MetricStore) -> Operations:
    """The operations of SageMaker Metrics on these values."""
    return {
        "BatchPutMetrics": partial(_batch_put, store),
        "BatchGetMetrics": partial(_batch_get, store),
    }


def _batch_put(store: MetricStore, call: Call) -> Mapping[str, Any]:
    """Keep the values that can be kept, and name the others by their place."""
    component = call.params["TrialComponentName"]
    values, errors = [], []
    for index, datum in enumerate(call.params["MetricData"]):
        # A comparison with NaN is never true.
        if abs(datum["Value"]) <= _MAX_VALUE and datum.get("Step", 0) <= _MAX_STEP:
            values.append(
                TrialValue(
                    datum["MetricName"], datum["Timestamp"], datum["Value"], datum.get("Step")
                )
            )
        else:
            errors.append({"Code": "VALIDATION_ERROR", "MetricIndex": index})
    store.put_trial(call.scope, component, values)
    return {"Errors": errors or None}


def _batch_get(store: MetricStore, call: Call) -> Mapping[str, Any]:
    """A result a query, in the order of the queries."""
    return {
        "MetricQueryResults": [
            _result(store, call, query) for query in call.params["MetricQueries"]
        ]
    }


def _result(store: MetricStore, call: Call, query: Mapping[str, Any]) -> dict[str, Any]:
    by_step = query["XAxisType"] == "IterationNumber"
    if by_step != (query["Period"] == "IterationNumber"):
        return _refused("XAxisType and Period must both be IterationNumber, or neither of them.")
    owner, _, component = query["ResourceArn"].rpartition("/")
    if owner.split(":")[3:5] != [call.scope.region, call.scope.account]:
        return _refused("The resource is not one of this account and region.")
    places = [
        (place, value.value)
        for value in store.trial(call.scope, component, query["MetricName"])
        if (place := _place(value, query, by_step)) is not None
    ]
    places.sort(key=lambda item: item[0])
    groups = [
        (place, [value for _, value in group])
        for place, group in groupby(places, key=lambda item: item[0])
    ]
    combine = _STATISTICS[query["MetricStat"]]
    return {
        "Status": "Complete",
        "XAxisValues": [place for place, _ in groups],
        "MetricValues": [float(combine(values)) for _, values in groups],
    }


def _refused(message: str) -> dict[str, Any]:
    return {
        "Status": "ValidationError",
        "Message": message,
        "XAxisValues": [],
        "MetricValues": [],
    }


def _place(value: TrialValue, query: Mapping[str, Any], by_step: bool) -> int | None:
    """Where a value belongs on the axis; None if it is outside of what is asked for."""
    at = value.step if by_step else int(value.at)
    if at is None or at < query.get("Start", at) or at > query.get("End", at):
        return None
    if by_step:
        return at
    length = _SECONDS[query["Period"]]
    return at // length * length
