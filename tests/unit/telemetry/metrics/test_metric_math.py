"""Metric math: the rules and the tables of the user guide."""

from __future__ import annotations

import pytest

from emulator.telemetry.metrics.expressions import UnusableExpression
from emulator.telemetry.metrics.metric_math import MetricMath, UnknownFunction, labelled
from emulator.telemetry.metrics.series_math import TimeSeries

START, PERIOD = 1_700_000_040.0, 60
Values = list[float | None]


def series(values: Values, label: str = "", period: int = PERIOD) -> TimeSeries:
    """One value a period; None where there is none."""
    points = {START + n * period: v for n, v in enumerate(values) if v is not None}
    return TimeSeries(label, period, points)


M1: Values = [1, 1, 0, 0, None]
M2: Values = [30, None, 0, 0, 30]
M3: Values = [0, 0, 20, None, 20]
LOSS: Values = [8, 4, None, 2, 1]
METRICS: dict[str, Values] = {"m1": M1, "m2": M2, "m3": M3, "loss": LOSS, "none": [None] * 5}


def result(expression: str, **others: str) -> list[Values]:
    """What the expression comes to, by periods."""
    metrics = {name: series(values, name) for name, values in METRICS.items()}
    maths = MetricMath(metrics, {"e": expression, **others}, START + 10, START + 5 * PERIOD)
    return [
        [one.points.get(START + n * PERIOD) for n in range(len(LOSS))] for one in maths.series("e")
    ]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("loss * 2", [16, 8, None, 4, 2]),
        ("2 * loss + 1", [17, 9, None, 5, 3]),
        ("1 - loss / 4", [-1, 0, None, 0.5, 0.75]),
        ("-loss", [-8, -4, None, -2, -1]),
        ("loss ^ 2 - -1", [65, 17, None, 5, 2]),
        ("-loss ^ 2", [-64, -16, None, -4, -1]),
        ("2 ^ 3 ^ 2 + loss - loss", [512, 512, None, 512, 512]),
        ("(loss - 1) * 2", [14, 6, None, 2, 0]),
        ("loss - 1 - 1", [6, 2, None, 0, -1]),
        ("loss + m2", [38, 4, 0, 2, 31]),  # what is missing counts as 0
        ("m2 / m1", [30, 0, None, None, None]),  # and by 0 is not divided
        ("loss > 3", [1, 1, None, 0, 0]),
        ("loss == 4 OR loss == 1", [0, 1, None, 0, 1]),
        ("loss > 1 AND loss < 8 && 1", [0, 1, None, 1, 0]),
        ("m1 != m2", [1, 1, 0, 0, 1]),
        ("ABS(loss - 4)", [4, 0, None, 2, 3]),
        ("CEIL(loss / 3)", [3, 2, None, 1, 1]),
        ("FLOOR(loss / 3)", [2, 1, None, 0, 0]),
        ("LOG(loss / loss)", [0, 0, None, 0, 0]),
        ("LOG10(m1)", [0, 0, None, None, None]),
        ("loss - AVG(loss)", [4.25, 0.25, None, -1.75, -2.75]),
        ("loss / SUM(loss) * 15", [8, 4, None, 2, 1]),
        ("loss - MIN(loss) + MAX(loss)", [15, 11, None, 9, 8]),
        ("loss * DATAPOINT_COUNT(loss)", [32, 16, None, 8, 4]),
        ("SUM([m1, m2])", [31, 1, 0, 0, 30]),
        ("AVG([m1, m2])", [15.5, 0.5, 0, 0, 15]),
        ("MIN([m1, m2])", [1, 1, 0, 0, 30]),
        ("MAX([m1, m2, loss])", [30, 4, 0, 2, 30]),
        ("DATAPOINT_COUNT([m1, m2])", [2, 1, 2, 2, 1]),
        ('SUM(METRICS("m"))', [31, 1, 20, 0, 50]),
        ("SUM([METRICS('m1'), METRICS('m2')])", [31, 1, 0, 0, 30]),
        ("SUM(METRICS())", [39, 5, 20, 2, 51]),
        ("loss / METRIC_COUNT(METRICS())", [1.6, 0.8, None, 0.4, 0.2]),
        ("loss * PERIOD(loss) / 60", [8, 4, None, 2, 1]),
        ("DIFF(loss)", [None, -4, None, -2, -1]),
        ("DIFF_TIME(loss)", [None, 60, None, 120, 60]),
        ("RATE(loss) * 60", [None, -4, None, -1, -1]),
        ("RUNNING_SUM(loss)", [8, 12, None, 14, 15]),
        ("FILL(loss, 0)", [8, 4, 0, 2, 1]),
        ("FILL(loss, MIN(loss))", [8, 4, 1, 2, 1]),
        ("FILL(loss, m3)", [8, 4, 20, 2, 1]),
        ("FILL(loss, REPEAT)", [8, 4, 4, 2, 1]),
        ("FILL(loss, LINEAR)", [8, 4, 3, 2, 1]),
        ("FILL(DIFF(loss), REPEAT)", [None, -4, -4, -2, -1]),
        ("FILL(m1, LINEAR)", [1, 1, 0, 0, None]),
        ("FILL(none, 7)", [7, 7, 7, 7, 7]),
        ("TIME_SERIES(MAX(loss))", [8, 8, 8, 8, 8]),
        ("IF(m1, m2, m3)", [30, 0, 20, None, None]),
        ("IF(m1, 5, m3)", [5, 5, 20, None, None]),
        ("IF(m1, m2, 5)", [30, 0, 5, 5, None]),
        ("IF(loss < 4, loss)", [None, None, None, 2, 1]),
        ("IF(loss < 4, 10, 2)", [2, 2, None, 10, 10]),
        ("IF(1, m2, m3)", M2),
        ("IF(0, m2, m3)", M3),
        ("IF(0, m2)", [None] * 5),
        ("FIRST([m1, m2])", M1),
        ("LAST(METRICS())", [None] * 5),
        ("FIRST(SORT([m1, m2, none], AVG, DESC))", M2),
        ("LAST(SORT([m1, m2], MAX, ASC))", M2),
        ("FIRST(SLICE([m1, m2, m3], 1))", M2),
        ("SUM(SLICE([m1, m2, m3], 1, 2))", [30, None, 0, 0, 30]),
        ("2 * other", [32, 16, None, 8, 4]),
    ],
)
def test_an_expression_of_one_series(expression: str, wanted: Values) -> None:
    [found] = result(expression, other="loss * 2")
    assert found == [None if value is None else pytest.approx(value) for value in wanted]


def test_an_expression_of_several_series() -> None:
    assert result("[m1, m2] * 2") == [[2, 2, 0, 0, None], [60, None, 0, 0, 60]]
    assert result("SORT([m1, m2, m3], SUM, DESC, 2)") == [M2, M3]
    assert result("REMOVE_EMPTY([none, m1])") == [M1]
    assert result("FILL(METRICS('m'), 9)") == [
        [1, 1, 0, 0, 9],
        [30, 9, 0, 0, 30],
        [0, 0, 20, 9, 20],
    ]
    assert result("RUNNING_SUM(METRICS('m1'))") == [[1, 2, 2, 2, None]]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "cannot be read"),
        ("m1 +", "cannot be read"),
        ("(m1", "cannot be read"),
        ("m1 m2", "cannot be read"),
        ("[m1", "cannot be read"),
        ("m1 ; m2", "cannot be read"),
        ("5", "comes to a number"),
        ("AVG(m1)", "comes to a number"),
        ("'text'", "argument of METRICS"),
        ("m9 + 1", "There is no metric or expression with the Id m9"),
        ("e + 1", "needs its own result"),
        ("other + 1", "needs its own result"),
        ("METRICS(m1)", "quotes"),
        ("PERIOD(other2)", "Id of a metric"),
        ("[m1, m2] + [m1, m2]", "not for two arrays"),
        ("[m1, 5]", "single time series"),
        ("AVG(5)", "needs a series"),
        ("AVG(m1, m2)", "takes 1 arguments, not 2"),
        ("IF([m1, m2], m1)", "no arrays"),
        ("SLICE(METRICS(), 1.5)", "whole number"),
        ("SORT(METRICS(), STDDEV, ASC)", "SORT takes"),
        ("FIRST(SLICE([m1], 1))", "not empty"),
        ("m1 + hourly", "different periods"),
        ("SUM([m1, hourly])", "different periods"),
        ("IF(m1, hourly)", "different periods"),
    ],
)
def test_what_has_no_value(expression: str, words: str) -> None:
    metrics = {name: series(values) for name, values in METRICS.items()}
    metrics["hourly"] = series([1], period=3600)
    texts = {"e": expression, "other": "e + 1", "other2": "m1"}
    with pytest.raises(UnusableExpression, match=words):
        MetricMath(metrics, texts, START, START + 300).series("e")


def test_functions_that_are_not_built_are_named() -> None:
    maths = MetricMath({"m1": series(M1)}, {"e": "ANOMALY_DETECTION_BAND(m1)"}, START, START + 60)
    with pytest.raises(UnknownFunction, match="ANOMALY_DETECTION_BAND"):
        maths.series("e")


def test_a_series_without_gaps_is_not_longer_than_an_answer() -> None:
    maths = MetricMath({"m1": series(M1, period=1)}, {"e": "FILL(m1, 0)"}, START, START + 200_000)
    with pytest.raises(UnusableExpression, match="200000 points"):
        maths.series("e")


def test_labels() -> None:
    one, two = series(M1, "loss"), series(M2, "accuracy")
    assert [s.label for s in labelled((one,), "sum")] == ["sum"]
    assert [s.label for s in labelled((one, two), "all")] == ["all loss", "all accuracy"]
    assert [s.label for s in labelled((one, two), "")] == ["loss", "accuracy"]
