"""How long a store in trouble is waited for."""

from __future__ import annotations

import pytest

from emulator.data.objectstore.objects import StoreError
from emulator.data.objectstore.retry import persist


class World:
    """A clock that only sleeping and working move, and a store that is down for a while."""

    def __init__(self, down: list[tuple[float, float]], work: float = 0, seconds: float = 0):
        """A request that fails takes `seconds` to do so."""
        self._seconds = seconds
        self.now = 0.0
        self.tries = 0
        self._down = down
        self._work = work

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def act(self) -> float:
        """Takes `work` seconds, unless the store goes down meanwhile."""
        self.tries += 1
        for start, end in self._down:
            if start <= self.now + self._work and self.now < end:
                self.now = max(self.now, start) + self._seconds
                raise StoreError("ServiceUnavailable", 503, "down", self._seconds)
        self.now += self._work
        return self.now

    def persist(self, patience: float = 90) -> float:
        return persist(self.act, patience, self.monotonic, self.sleep)


def test_a_minute_without_a_store_is_outlasted() -> None:
    world = World([(0, 60)])
    assert 60 <= world.persist() <= 70
    assert world.tries < 20, "it is not hammered on"


def test_more_is_not() -> None:
    world = World([(0, 1000)])
    with pytest.raises(StoreError):
        world.persist()
    assert 90 <= world.now < 100


def test_two_outages_far_apart_count_each_for_itself() -> None:
    world = World([(300, 360), (700, 760)], work=500)
    assert world.persist() >= 1260


@pytest.mark.parametrize("seconds", [30, 200])
def test_requests_that_take_long_to_fail_are_no_work_that_went_well(seconds: float) -> None:
    world = World([(0, 10_000)], seconds=seconds)
    with pytest.raises(StoreError):
        world.persist()
    assert world.now < 90 + 8 + seconds


def test_such_requests_far_apart_count_each_for_itself() -> None:
    assert World([(300, 310), (700, 710)], work=500, seconds=70).persist() >= 1270


def test_a_refusal_is_not_tried_again() -> None:
    tries = []

    def refuse() -> None:
        tries.append(1)
        raise StoreError("AccessDenied", 403, "no")

    with pytest.raises(StoreError):
        persist(refuse, sleep=tries.append)
    assert tries == [1]
