"""What is removed after the retention time, and what stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator.database import Database
from emulator.model.scope import Scope
from emulator.placement.leases import MIGRATION, Lease, LeaseBook
from emulator.telemetry.logs.groups import set_retention
from emulator.telemetry.logs.streams import LogStore
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import (
    MIGRATIONS,
    MetricStore,
    Series,
    SeriesQuery,
    TrialValue,
)
from emulator.workloads.retention import DAY, Retention, kept_files, moved_aside

SCOPE = Scope("123456789012", "us-east-1")
NOW = 1000 * DAY
GROUP = "/aws/sagemaker/TrainingJobs"
NO_BOUND = 1 << 60


class State:
    """A state directory with its stores."""

    def __init__(self, root: Path):
        self.root = root
        self.logs = LogStore(root / "logs")
        self.metrics = MetricStore(Database(root / "metrics.sqlite3", MIGRATIONS))
        self.database = Database(root / "emulator.sqlite3", (MIGRATION,))
        self.leases = LeaseBook(self.database)

    def prune(self, days: float = 10, kept_bytes: int = NO_BOUND) -> None:
        Retention(
            self.root,
            self.logs,
            self.metrics,
            self.leases,
            days=days,
            kept_bytes=kept_bytes,
            now=lambda: NOW,
        ).prune()

    def stream(self, name: str, age: float, group: str = GROUP) -> None:
        """One that was last written `age` days ago."""
        writer = self.logs.writer(SCOPE, group, name)
        writer.write("line", int((NOW - age * DAY) * 1000))
        writer.close()
        set_age(self.logs.path(SCOPE, group, name), age)

    def kept(self, name: str, age: float, size: int = 10) -> Path:
        place = self.root / "kept" / SCOPE.account / SCOPE.region / name
        (place / "algo-1" / "model").mkdir(parents=True)
        (place / "algo-1" / "model" / "weights").write_bytes(b"x" * size)
        set_age(place, age)
        return place


def set_age(path: Path, days: float) -> None:
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def test_old_log_streams_go_and_their_group_stays(state: State) -> None:
    state.stream("old", 11)
    state.stream("new", 9)
    state.prune()
    assert state.logs.stream_names(SCOPE, GROUP) == ["new"]
    state.prune(days=1)
    assert state.logs.stream_names(SCOPE, GROUP) == []
    assert [group.name for group in state.logs.groups(SCOPE)] == [GROUP]


def test_a_stream_that_is_being_written_stays(state: State) -> None:
    writer = state.logs.writer(SCOPE, GROUP, "silent")
    writer.write("line", 0)
    set_age(state.logs.path(SCOPE, GROUP, "silent"), 99)
    state.prune()
    writer.write("another", 1)
    writer.close()
    page = state.logs.forward(SCOPE, GROUP, "silent")
    assert [event.message for event in page.events] == ["line", "another"]


def test_a_group_with_days_of_its_own_follows_those(state: State) -> None:
    for group, days in (("/short", 3), ("/long", 365)):
        state.stream("old", 5, group)
        state.stream("older", 99, group)
        set_retention(state.logs, SCOPE, group, days)
    state.prune()
    assert state.logs.stream_names(SCOPE, "/short") == []
    assert state.logs.stream_names(SCOPE, "/long") == ["old", "older"]


def test_old_metrics_go_with_series_that_have_no_other(state: State) -> None:
    old, both = Series("ns", "old"), Series("ns", "both")
    long_ago, lately = NOW - 11 * DAY, NOW - 9 * DAY
    state.metrics.put(SCOPE, [(old, Sample.of(1, long_ago)), (both, Sample.of(2, long_ago))])
    state.metrics.put(SCOPE, [(both, Sample.of(3, lately))])
    state.metrics.put_trial(SCOPE, "c", [TrialValue("loss", at, 1.0) for at in (long_ago, lately)])
    state.prune()
    assert [series for _, series in state.metrics.series(SCOPE, SeriesQuery(), 0, 9)] == [both]
    assert state.metrics.samples(SCOPE, both, False, 0, NOW) == {"None": [Sample.of(3, lately)]}
    assert [value.at for value in state.metrics.trial(SCOPE, "c", "loss")] == [lately]


def test_only_leases_that_were_given_back_go(state: State) -> None:
    for job, opened, closed in (("a", 0.0, 1.0), ("b", 0.0, NOW - DAY), ("c", 0.0, None)):
        state.leases.open(Lease(job, job, {"algo-1": (f"GPU-{job}",)}), opened)
        if closed is not None:
            state.leases.close(job, closed)
    state.prune()
    with state.database.reading() as connection:
        rows = connection.execute("SELECT job FROM gpu_lease ORDER BY job").fetchall()
    assert [row["job"] for row in rows] == ["b", "c"]
    assert [holding.job for holding in state.leases.holdings()] == ["c"]


def test_old_kept_files_go(state: State) -> None:
    state.kept("old.1", 11)
    young = state.kept("young.1", 9)
    state.prune()
    assert [kept.path for kept in kept_files(state.root)] == [young]


def test_job_directories_that_were_set_aside_count_as_kept_files(state: State) -> None:
    scope = state.root / "jobs" / SCOPE.account / SCOPE.region
    for name, age in (("old.1", 11), ("young.1", 9), ("running", 11)):
        (scope / name).mkdir(parents=True)
        set_age(scope / name, age)
    state.prune()
    assert sorted(path.name for path in scope.iterdir()) == ["running", "young.1"]


def test_the_oldest_kept_files_go_where_all_exceed_the_bound(state: State) -> None:
    size = 1 << 20
    for age in (5, 4, 3):
        state.kept(f"job.{age}", age, size)
    today = state.kept("job.today", 0.5, size)
    state.prune(kept_bytes=int(2.5 * size))
    left = [kept.path.name for kept in kept_files(state.root)]
    assert left == ["job.3", "job.today"]
    state.prune(kept_bytes=0)
    assert [kept.path for kept in kept_files(state.root)] == [today]


def test_without_a_time_all_stays(state: State) -> None:
    state.stream("old", 999)
    place = state.kept("old.1", 999)
    state.metrics.put(SCOPE, [(Series("ns", "old"), Sample.of(1, 1))])
    state.prune(days=0)
    assert state.logs.stream_names(SCOPE, GROUP) == ["old"]
    assert place.exists()
    assert state.metrics.samples(SCOPE, Series("ns", "old"), False, 0, 9)


def test_what_was_moved_aside_is_removed_once_it_can_be(state: State) -> None:
    scope = state.root / "jobs" / SCOPE.account / SCOPE.region
    (scope / "ended~1" / "files").mkdir(parents=True)
    (scope / "running").mkdir()
    retention = Retention(
        state.root,
        state.logs,
        state.metrics,
        state.leases,
        days=0,
        kept_bytes=0,
        now=lambda: (scope / "ended~1").stat().st_ctime + 2 * DAY,
    )
    retention.prune()
    assert moved_aside(state.root) == []
    assert (scope / "running").exists()


def test_one_step_that_fails_keeps_no_other_from_its_work(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    with state.database.writing() as connection:
        connection.execute("DROP TABLE gpu_lease")
    state.stream("old", 11)
    state.prune()
    assert state.logs.stream_names(SCOPE, GROUP) == []
    assert "no such table" in caplog.text
