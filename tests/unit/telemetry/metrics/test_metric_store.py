from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.database import Database
from emulator.model.scope import Scope
from emulator.telemetry.metrics.statistics import Sample, periods
from emulator.telemetry.metrics.store import (
    MIGRATIONS,
    MetricStore,
    Series,
    SeriesQuery,
    TrialValue,
)

SCOPE = Scope("123456789012", "us-east-1")
OTHER = Scope("123456789012", "eu-west-1")
START = 1_700_000_040.0
LOSS = Series("ns", "loss", (("TrainingJobName", "a"),))


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(Database(tmp_path / "metrics.db", MIGRATIONS))


def names(store: MetricStore, **terms: object) -> list[str]:
    return [series.name for _, series in store.series(SCOPE, SeriesQuery(**terms), 0, 100)]  # type: ignore[arg-type]


def test_samples_come_back_in_time_and_by_unit(store: MetricStore) -> None:
    percent = Series("ns", "loss", LOSS.dimensions, "Percent")
    store.put(
        SCOPE, [(LOSS, Sample.of(2, 20)), (LOSS, Sample.of(1, 10)), (percent, Sample.of(3, 15))]
    )
    store.put(OTHER, [(LOSS, Sample.of(9, 10))])
    assert store.samples(SCOPE, LOSS, True, 0, 100) == {
        "None": [Sample.of(1, 10), Sample.of(2, 20)],
        "Percent": [Sample.of(3, 15)],
    }
    assert store.samples(SCOPE, percent, False, 0, 100) == {"Percent": [Sample.of(3, 15)]}
    # From the start on, until before the end.
    assert store.samples(SCOPE, LOSS, False, 10, 20) == {"None": [Sample.of(1, 10)]}
    assert store.samples(SCOPE, Series("ns", "loss"), True, 0, 100) == {}


def test_the_order_of_dimensions_does_not_matter(store: MetricStore) -> None:
    store.put(SCOPE, [(Series("ns", "m", (("b", "2"), ("a", "1"))), Sample.of(1, 1))])
    store.put(SCOPE, [(Series("ns", "m", (("a", "1"), ("b", "2"))), Sample.of(2, 2))])
    assert names(store) == ["m"]


def test_series_are_found_by_all_that_they_have(store: MetricStore) -> None:
    def put(name: str, *dimensions: tuple[str, str], at: float = 1) -> None:
        store.put(SCOPE, [(Series("ns", name, dimensions), Sample.of(1, at))])

    put("plain")
    put("one", ("Host", "job/algo-1"))
    put("ten", ("Host", "job/algo-10"), at=50)
    put("odd", ("Odd", '["Host", "job/algo-1"]'))
    put("both", ("Host", "job/algo-1"), ("Gpu", "0"))
    assert names(store) == ["plain", "one", "ten", "odd", "both"]
    assert names(store, dimensions=(("Host", None),)) == ["one", "ten", "both"]
    assert names(store, dimensions=(("Host", "job/algo-1"),)) == ["one", "both"]
    assert names(store, dimensions=(("Host", "job/algo-1"), ("Gpu", None))) == ["both"]
    assert names(store, name="ten") == ["ten"]
    assert names(store, namespace="other") == []
    assert names(store, active_since=50.0) == ["ten"]
    assert [s.name for _, s in store.series(OTHER, SeriesQuery(), 0, 100)] == []
    page = store.series(SCOPE, SeriesQuery(), 0, 2)
    rest = store.series(SCOPE, SeriesQuery(), page[-1][0], 100)
    assert [series.name for _, series in (*page, *rest)] == names(store)


def test_the_last_of_values_that_came_at_once_is_the_last(store: MetricStore) -> None:
    store.put(SCOPE, [(LOSS, Sample.of(value, 10)) for value in (3, 1, 2)])
    store.put(SCOPE, [(LOSS, Sample.of(7, 5))])
    assert store.last(SCOPE, "ns", LOSS.dimensions, 0) == {"loss": Sample.of(2, 10)}
    # An earlier job of the same name may have left values.
    assert store.last(SCOPE, "ns", LOSS.dimensions, 11) == {}
    assert store.last(SCOPE, "ns", (("TrainingJobName", "b"),), 0) == {}


def test_trial_values_are_apart(store: MetricStore) -> None:
    store.put_trial(SCOPE, "c", [TrialValue("m", 2, 0.5, 1), TrialValue("m", 1, 0.25)])
    assert store.trial(SCOPE, "c", "m") == [TrialValue("m", 1, 0.25), TrialValue("m", 2, 0.5, 1)]
    assert store.trial(SCOPE, "d", "m") == []
    assert names(store) == []


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(-100, 700), st.floats(-1e6, 1e6), st.sampled_from(["None", "Count"])),
        max_size=30,
    ),
    st.sampled_from([1, 10, 60, 300]),
)
def test_sums_are_the_samples_put_together(
    values: list[tuple[float, float, str]], length: int
) -> None:
    with TemporaryDirectory() as folder:
        database = Database(Path(folder, "metrics.db"), MIGRATIONS)
        store = MetricStore(database)
        store.put(
            SCOPE,
            [(Series("ns", "m", (), unit), Sample.of(v, START + at, 2)) for at, v, unit in values],
        )
        for any_unit in (True, False):
            window = (SCOPE, Series("ns", "m"), any_unit, START, START + 600)
            apart, together = store.samples(*window), store.sums(*window, length)
            assert apart.keys() == together.keys()
            for unit, samples in apart.items():
                wanted = [
                    Sample(
                        period.start,
                        sum(s.number for s in period.samples),
                        pytest.approx(sum(s.total for s in period.samples), abs=1e-3),
                        min(s.minimum for s in period.samples),
                        max(s.maximum for s in period.samples),
                    )
                    for period in periods(samples, START, length)
                ]
                assert together[unit] == wanted
        database.close()


def test_points_come_as_they_were_kept_with_who_wrote_them(store: MetricStore) -> None:
    loss, other = LOSS, Series("ns", "loss", (("TrainingJobName", "b"),))
    store.put(SCOPE, [(loss, Sample.of(3, 10)), (loss, Sample.of(2, 10))], source="algo-2")
    store.put(SCOPE, [(other, Sample.of(9, 11)), (loss, Sample.of(1, 12))])
    points = store.points(SCOPE, "ns", LOSS.dimensions, 0, 10)
    assert [(p.name, p.source, p.at, p.value) for p in points] == [
        ("loss", "algo-2", 10, 3),
        ("loss", "algo-2", 10, 2),
        ("loss", None, 12, 1),
    ]
    assert store.points(SCOPE, "ns", LOSS.dimensions, points[1].number, 10) == points[2:]
    assert store.points(SCOPE, "ns", LOSS.dimensions, 0, 2) == points[:2]
    assert store.newest() == points[-1].number


def test_nothing_is_known_of_nobody(store: MetricStore) -> None:
    assert store.newest() == 0
    assert store.points(SCOPE, "ns", LOSS.dimensions, 0, 10) == []
    assert store.points(SCOPE, "ns", LOSS.dimensions, 7, 10) == []
