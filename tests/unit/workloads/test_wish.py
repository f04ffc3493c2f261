from __future__ import annotations

from emulator.workloads.run.cancellation import Reason, Wish


def test_the_first_reason_counts_and_a_shutdown_hurries() -> None:
    wish = Wish()
    wish.stop()
    wish.shut_down()
    assert (wish.reason, wish.hurry) == (Reason.STOP, True)
    assert wish.end.is_set()
    other = Wish()
    other.stop(Reason.MAX_WAIT)
    other.stop()
    assert (other.reason, other.hurry) == (Reason.MAX_WAIT, False)


def test_an_interruption_is_told_once_and_ends_nothing() -> None:
    wish = Wish()
    wish.interrupt(3.0)
    assert wish.calls()
    assert not wish.end.is_set()
    assert wish.take_interruption() == 3.0
    assert wish.take_interruption() is None
    assert not wish.calls()


def test_a_stop_is_still_heard_after_an_interruption() -> None:
    wish = Wish()
    wish.interrupt(0)
    wish.stop()
    assert wish.take_interruption() == 0
    assert wish.calls()
    assert wish.pause(300), "it does not wait"
