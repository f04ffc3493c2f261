from __future__ import annotations

from emulator.model.run_record import Reason
from emulator.workloads.run.cancellation import CancelToken


def test_the_first_reason_counts_and_a_shutdown_hurries() -> None:
    token = CancelToken()
    token.stop()
    token.shut_down(leaves=False)
    assert (token.reason, token.hurry) == (Reason.STOP, True)
    assert token.end.is_set()
    other = CancelToken()
    other.stop(Reason.MAX_WAIT)
    other.stop()
    assert (other.reason, other.hurry) == (Reason.MAX_WAIT, False)


def test_an_interruption_is_told_once_and_ends_nothing() -> None:
    token = CancelToken()
    token.interrupt(3.0)
    assert token.calls()
    assert not token.end.is_set()
    assert token.take_interruption() == 3.0
    assert token.take_interruption() is None
    assert not token.calls()


def test_a_stop_is_still_heard_after_an_interruption() -> None:
    token = CancelToken()
    token.interrupt(0)
    token.stop()
    assert token.take_interruption() == 0
    assert token.calls()
    assert token.pause(300), "it does not wait"
