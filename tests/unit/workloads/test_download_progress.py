"""Several channels come at once: people are told of all of them together."""

from __future__ import annotations

from emulator.workloads.transfers.inputs_outputs import _Total
from emulator.workloads.transfers.reports import Meter


def test_channels_add_up_and_short_downloads_say_nothing() -> None:
    now, said = [0.0], []
    total = _Total(Meter(lambda: now[0], said.append))
    train, test = total.of("train"), total.of("test")
    train(0, 3_000_000)
    test(500_000, 1_000_000)
    assert said == []
    now[0] = 10.0
    train(1_500_000, 3_000_000)
    assert said == ["2.0 MB of 4.0 MB, 200 KB/s, 10 s left"]
    test(1_000_000, 1_000_000)
    assert len(said) == 1
    now[0] = 20.0
    train(3_000_000, 3_000_000)
    assert said[1:] == ["4.0 MB of 4.0 MB, 200 KB/s, 0 s left"]
