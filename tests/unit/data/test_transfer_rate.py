"""Progress in words."""

from __future__ import annotations

import pytest

from emulator.data.objectstore.transfer_rate import Pace, duration, size


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (Pace(1_200_000_000, 4_000_000_000, 10), "1.2 GB of 4.0 GB, 120 MB/s, 23 s left"),
        (Pace(0, 1000, 0), "0 bytes of 1.0 KB, 0 bytes/s"),
        (Pace(0, 1000, 9), "0 bytes of 1.0 KB, 0 bytes/s"),
        (Pace(999, 999, 1), "999 bytes of 999 bytes, 999 bytes/s, 0 s left"),
    ],
)
def test_words(pace: Pace, words: str) -> None:
    assert str(pace) == words


def test_sizes_and_durations() -> None:
    assert [size(n) for n in (0, 999, 1000, 9_900_000, 12_345_678, 5e15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 KB",
        "9.9 MB",
        "12 MB",
        "5000 TB",
    ]
    assert [duration(s) for s in (0.4, 59.6, 185, 7800)] == [
        "0 s",
        "1 min 0 s",
        "3 min 5 s",
        "2 h 10 min",
    ]
