from __future__ import annotations

import weakref

from emulator.jobs.alarms import Alarms


class Hands:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_alarms_ring_in_their_order_and_once() -> None:
    hands, rung = Hands(), list[str]()
    alarms = Alarms(hands)
    try:
        alarms.after(20, lambda: rung.append("late"))
        alarms.after(10, lambda: rung.append("early"))
        alarms.after(15, lambda: rung.append("called off")).cancel()
        alarms.ring_due()
        assert rung == []
        hands.now = 130.0
        alarms.ring_due()
        alarms.ring_due()
    finally:
        alarms.close()
    # Its own thread may have been faster with one of them, but each rings once.
    assert sorted(rung) == ["early", "late"]


def test_nothing_rings_after_the_end() -> None:
    hands, rung = Hands(), list[int]()
    alarms = Alarms(hands)
    alarms.after(10, lambda: rung.append(1))
    alarms.close()
    hands.now = 200.0
    alarms.ring_due()
    assert rung == []


def test_an_alarm_that_was_called_off_holds_nothing() -> None:
    class Job:
        def expire(self) -> None:
            raise AssertionError

    alarms, job = Alarms(Hands()), Job()
    gone = weakref.ref(job)
    alarms.after(1000, job.expire).cancel()
    del job
    assert gone() is None
    alarms.close()
