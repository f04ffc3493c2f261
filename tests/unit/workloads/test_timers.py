from __future__ import annotations

import weakref
from threading import Event

from emulator.workloads.run.timers import Timers


class Hands:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_timers_ring_in_their_order_and_once() -> None:
    hands, rung = Hands(), list[str]()
    timers = Timers(hands)
    try:
        timers.after(20, lambda: rung.append("late"))
        timers.after(10, lambda: rung.append("early"))
        timers.after(15, lambda: rung.append("called off")).cancel()
        timers.ring_due()
        assert rung == []
        hands.now = 130.0
        timers.ring_due()
        timers.ring_due()
    finally:
        timers.close()
    # Its own thread may have been faster with one of them, but each rings once.
    assert sorted(rung) == ["early", "late"]


def test_nothing_rings_after_the_end() -> None:
    hands, rung = Hands(), list[int]()
    timers = Timers(hands)
    timers.after(10, lambda: rung.append(1))
    timers.close()
    hands.now = 200.0
    timers.ring_due()
    assert rung == []


def test_an_alarm_that_was_called_off_holds_nothing() -> None:
    class Job:
        def expire(self) -> None:
            raise AssertionError

    timers, job = Timers(Hands()), Job()
    gone = weakref.ref(job)
    timers.after(1000, job.expire).cancel()
    del job
    assert gone() is None
    timers.close()


def test_a_slow_timer_and_a_failing_one_delay_no_other() -> None:
    hands, rung, over = Hands(), list[str](), Event()
    timers = Timers(hands)

    def slow() -> None:
        over.wait(60)

    def failing() -> None:
        raise OSError("no such thing")

    try:
        timers.after(1, slow, slow=True)
        timers.after(2, failing)
        timers.after(3, lambda: rung.append("in time"))
        hands.now = 110.0
        timers.ring_due()
    finally:
        over.set()
        timers.close()
    # The thread of the timers itself may be calling the last one at this moment.
    assert rung == ["in time"] or not timers._waiting
