from __future__ import annotations

from emulator.data.objectstore.availability import Availability


def test_a_store_that_was_away_is_remembered_with_the_time() -> None:
    now = [100.0]
    store = Availability(now=lambda: now[0])
    assert store.away_since(0) == ""
    store.note("it was away")
    now[0] = 130.0
    assert store.away_since(100) == "it was away"
    assert store.away_since(101) == ""
    assert store.problem() == ""


def test_one_that_is_away_now_needs_no_note() -> None:
    store = Availability(lambda: "it ended")
    assert store.problem() == store.away_since(1e12) == "it ended"
