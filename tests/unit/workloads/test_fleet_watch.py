"""When training is over, by a clock that moves only while the watch waits."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_examples import named

from emulator.model.plan import Exit
from emulator.model.run_record import Cause, Ending
from emulator.telemetry.logs.collector import job_lines
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.run.cancellation import CancelToken
from emulator.workloads.run.fleet_watch import FleetWatch

HOSTS = ("algo-1", "algo-2")


class Fleet:
    """Instances that end at given times, or some time after SIGTERM; nothing runs."""

    def __init__(self, ends: dict[str, tuple[float, int]], heed: dict[str, float] | None = None):
        """`ends` has times and codes by host, `heed` the seconds from SIGTERM to the end."""
        self.now = 0.0
        self.log: list[tuple[float, str]] = []
        self._ends = {host: (at, code) for host, (at, code) in ends.items()}
        self._heed = heed or {}

    def next_exit(self, timeout: float) -> Exit | None:
        due = sorted((at, host) for host, (at, _) in self._ends.items())
        if due and due[0][0] <= self.now + timeout:
            at, host = due[0]
            self.now = max(self.now, at)
            return Exit(host, self._ends.pop(host)[1], at)
        self.now += timeout
        return None

    def terminate(self) -> None:
        self.log.append((self.now, "terminate"))
        for host, seconds in self._heed.items():
            if host in self._ends:
                self._ends[host] = (self.now + seconds, 0)

    def kill(self, host: str | None = None) -> None:
        self.log.append((self.now, "kill"))
        hit = [each for each in self._ends if host in (None, each)]
        self._ends |= dict.fromkeys(hit, (self.now, 137))

    def close(self) -> None:
        """Nothing to remove."""


def watch(tmp_path: Path, fleet: Fleet, token: CancelToken | None = None) -> FleetWatch:
    lines = job_lines(LogStore(tmp_path), named(instances=2), lambda: 0.0)
    return FleetWatch(fleet, HOSTS, lines, token or CancelToken(), lambda: fleet.now)


def calm(_: float) -> None:
    """Nothing befalls anybody."""


def never() -> dict[str, tuple[float, int]]:
    return dict.fromkeys(HOSTS, (1000000000.0, 0))


def test_all_end_well(tmp_path: Path) -> None:
    fleet = Fleet({"algo-1": (5, 0), "algo-2": (3, 0)})
    assert watch(tmp_path, fleet).until_over(60, calm) == Ending(Cause.DONE)
    assert fleet.now == 5


def test_the_first_failure_ends_it(tmp_path: Path) -> None:
    fleet = Fleet({"algo-1": (1e9, 0), "algo-2": (3, 4)})
    ending = watch(tmp_path, fleet).until_over(60, calm)
    assert ending.cause is Cause.FAILED
    assert ending.failed == Exit("algo-2", 4, 3)


def test_time_is_up_to_the_moment(tmp_path: Path) -> None:
    fleet = Fleet(never())
    assert watch(tmp_path, fleet).until_over(7.05, calm).cause is Cause.TIME
    assert fleet.now == pytest.approx(7.05)


def test_no_time_is_left(tmp_path: Path) -> None:
    assert watch(tmp_path, Fleet(never())).until_over(-1, calm).cause is Cause.TIME


def test_a_stop_ends_it(tmp_path: Path) -> None:
    token = CancelToken()
    token.stop()
    fleet = Fleet(never())
    assert watch(tmp_path, fleet, token).until_over(60, calm).cause is Cause.CANCELLED
    assert fleet.now < 0.5


def test_interruptions_and_other_trouble(tmp_path: Path) -> None:
    token = CancelToken()
    token.interrupt(30)
    ending = watch(tmp_path, Fleet(never()), token).until_over(60, calm)
    assert ending == Ending(Cause.INTERRUPTED, away=30)
    fleet = Fleet(never())
    lost = Ending(Cause.LOST)
    ending = watch(tmp_path, fleet).until_over(60, lambda trained: lost if trained >= 5 else None)
    assert ending == lost
    assert 5 <= fleet.now < 5.5


def test_who_heeds_sigterm_is_not_killed(tmp_path: Path) -> None:
    fleet = Fleet(never(), heed={"algo-1": 10, "algo-2": 100})
    watch(tmp_path, fleet).end_all(grace=120, hurried_grace=3)
    assert fleet.log == [(0, "terminate")]
    assert fleet.now == 100


def test_who_does_not_is_killed_after_the_grace(tmp_path: Path) -> None:
    fleet = Fleet(never(), heed={"algo-1": 10})
    watch(tmp_path, fleet).end_all(grace=120, hurried_grace=3)
    assert [what for _, what in fleet.log] == ["terminate", "kill"]
    assert fleet.log[1][0] == pytest.approx(120)


def test_a_shutdown_shortens_the_grace(tmp_path: Path) -> None:
    token = CancelToken()
    token.stop()
    token.shut_down(leaves=False)
    fleet = Fleet(never())
    watch(tmp_path, fleet, token).end_all(grace=120, hurried_grace=3)
    assert fleet.log[1][0] == pytest.approx(3)


class RootsFleet(Fleet):
    """What its instances write is root's at first."""

    def hand_over(self) -> None:
        self.log.append((self.now, f"hand over, {len(self._ends)} run"))


def test_files_are_handed_over_when_the_last_has_ended(tmp_path: Path) -> None:
    fleet = RootsFleet(never(), heed={"algo-1": 10})
    watch(tmp_path, fleet).end_all(grace=120, hurried_grace=3)
    assert [what for _, what in fleet.log] == ["terminate", "kill", "hand over, 0 run"]


def test_files_are_handed_over_when_all_have_ended_by_themselves(tmp_path: Path) -> None:
    fleet = RootsFleet(dict.fromkeys(HOSTS, (1.0, 0)))
    seen = watch(tmp_path, fleet)
    assert seen.until_over(60, calm) == Ending(Cause.DONE)
    seen.end_all(grace=120, hurried_grace=3)
    assert fleet.log == [(1.0, "hand over, 0 run")]
