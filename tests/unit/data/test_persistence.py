"""How long a store in trouble is waited for."""

from __future__ import annotations

import pytest

from emulator.data.objectstore.objects import StoreError
from emulator.data.objectstore.retry import persist

DOWN = StoreError("ServiceUnavailable", 503, "down")


class World:
    """A clock that only sleeping and working move, and a store that is down for a while."""

    def __init__(self, down: list[tuple[float, float]], work: float = 0):
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
                self.now = max(self.now, start)
                raise DOWN
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


def test_a_refusal_is_not_tried_again() -> None:
    tries = []

    def refuse() -> None:
        tries.append(1)
        raise StoreError("AccessDenied", 403, "no")

    with pytest.raises(StoreError):
        persist(refuse, sleep=tries.append)
    assert tries == [1]
