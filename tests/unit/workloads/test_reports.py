"""How often a transfer speaks."""

from __future__ import annotations

from emulator.workloads.transfers.reports import Meter


def test_a_short_transfer_says_nothing_and_a_long_one_now_and_then() -> None:
    now = 100.0
    said: list[str] = []
    meter = Meter(lambda: now, said.append, quiet=5)
    for second in range(13):
        now = 100.0 + second
        meter(second * 1_000_000, 20_000_000)
        assert meter.said is (second >= 5)
    assert said == [
        "5.0 MB of 20 MB, 1.0 MB/s, 15 s left",
        "10 MB of 20 MB, 1.0 MB/s, 10 s left",
    ]
