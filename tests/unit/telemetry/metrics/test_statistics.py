from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.telemetry.metrics.statistics import Sample, percentile, periods, statistic

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


def value_of(name: str, samples: list[Sample]) -> float | None:
    function = statistic(name)
    assert function
    return function(samples)


@given(VALUES)
def test_plain_statistics(values: list[float]) -> None:
    samples = [Sample.of(value, 0) for value in values]
    assert value_of("SampleCount", samples) == len(values)
    assert value_of("Sum", samples) == math.fsum(values)
    assert value_of("Minimum", samples) == min(values)
    assert value_of("Maximum", samples) == max(values)
    average = value_of("Average", samples)
    assert average == pytest.approx(math.fsum(values) / len(values))
    assert average is not None
    assert min(values) <= average <= max(values)


@given(VALUES, st.integers(1, 5))
def test_a_count_is_the_same_as_so_many_values(values: list[float], count: int) -> None:
    together = [Sample.of(value, 0, count) for value in values]
    apart = [Sample.of(value, 0) for value in values for _ in range(count)]
    for name in ("SampleCount", "Minimum", "Maximum", "p0", "p10", "p50", "p99.9", "p100"):
        assert value_of(name, together) == value_of(name, apart)
    assert value_of("Sum", together) == pytest.approx(value_of("Sum", apart))


@given(VALUES, st.floats(0, 1))
def test_a_percentile_is_the_first_value_with_enough_below(
    values: list[float], share: float
) -> None:
    found = percentile([Sample.of(value, 0) for value in values], share)
    assert found in values
    below = [value for value in values if value < found]
    upto = [value for value in values if value <= found]
    assert len(upto) >= share * len(values)
    assert not below or len(below) < share * len(values)


def test_percentiles_need_the_values_themselves() -> None:
    known, summary = Sample.of(1, 0), Sample(0, 3, 6, 1, 3)
    assert value_of("p50", [known]) == 1
    assert value_of("p50", [known, summary]) is None
    assert value_of("Average", [known, summary]) == 7 / 4


@pytest.mark.parametrize("name", ["Median", "p101", "p", "tm90", "average", "p-1", ""])
def test_other_names_are_no_statistics(name: str) -> None:
    assert statistic(name) is None


@given(
    st.lists(st.floats(0, 10_000, allow_nan=False)),
    st.sampled_from([1, 5, 30, 60, 300]),
)
def test_each_sample_is_in_one_period_that_covers_it(offsets: list[float], length: int) -> None:
    start = 1_700_000_040.0
    samples = [Sample.of(1, start + offset) for offset in offsets]
    found = periods(samples, start, length)
    assert sum(len(period.samples) for period in found) == len(samples)
    assert [period.start for period in found] == sorted({period.start for period in found})
    for period in found:
        assert (period.start - start) % length == 0
        assert all(period.start <= sample.at < period.start + length for sample in period.samples)
