"""The search for metrics in its real process."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from emulator.telemetry.logs import metric_scan
from emulator.telemetry.logs.metric_scan import Found, MetricScan

CATASTROPHE = r"(\w+\s?)+:(\d+)$"
BAIT = b"word " * 40 + b"\n"


class Listener:
    def __init__(self) -> None:
        self.found: list[Found] = []
        self.dropped: list[int] = []
        self.now = 100.0

    def scan(self, *patterns: str) -> MetricScan:
        return MetricScan(patterns, self.found.extend, self.dropped.append, lambda: self.now)


def test_values_come_with_the_time_of_their_output() -> None:
    listener = Listener()
    scan = listener.scan(r"loss=(\S+)", r"acc=(\S+)")
    scan.feed("algo-1", b"loss=1\nlo")
    listener.now = 101
    scan.feed("algo-1", b"ss=2 acc=0.5\nacc=1")
    scan.finish("algo-1")
    scan.close()
    assert [(item.definition, item.value, item.at) for item in listener.found] == [
        (0, 1.0, 100),
        (0, 2.0, 101),
        (1, 0.5, 101),
        (1, 1.0, 101),
    ]
    assert {item.host for item in listener.found} == {"algo-1"}


def test_much_output_is_searched_to_its_end() -> None:
    listener = Listener()
    scan = listener.scan(r"loss=(\S+)", "never")
    for start in range(0, 50_000, 100):
        scan.feed("h", b"".join(b"step loss=%d\n" % n for n in range(start, start + 100)))
    scan.close()
    assert [item.value for item in listener.found] == list(range(50_000))


def test_a_catastrophic_pattern_holds_up_nobody() -> None:
    listener = Listener()
    scan = listener.scan(CATASTROPHE, r"loss=(\S+)")
    ticks: list[float] = []
    over = threading.Event()

    def tick() -> None:
        while not over.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.01)

    ticker = threading.Thread(target=tick)
    ticker.start()
    before = time.monotonic()
    for number in range(30):
        scan.feed("h", BAIT + b"loss=%d\n" % number)
    fed = time.monotonic() - before
    scan.close()
    over.set()
    ticker.join()
    assert fed < 10
    assert [item.value for item in listener.found] == list(range(30))
    assert listener.dropped == [0]
    # In one interpreter a search of this kind would stop every thread for good.
    assert max(later - sooner for sooner, later in pairwise(ticks)) < 10


def test_output_beyond_the_backlog_is_left_out_whole_lines_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metric_scan, "BACKLOG_BYTES", 1000)
    listener = Listener()
    scan = listener.scan(r"x=(\d+)$")
    scan.feed("h", b"x=12")
    scan.feed("h", b"3" * 2000)
    scan.feed("h", b"4\nx=5\n")
    scan.close()
    assert scan.lost_bytes == 2000
    assert [item.value for item in listener.found] == [5.0]


def test_the_end_of_a_job_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_scan, "FINISH_SECONDS", 0.2)
    listener = Listener()
    scan = listener.scan(CATASTROPHE)
    for _ in range(5):
        scan.feed("h", BAIT)
    before = time.monotonic()
    scan.close()
    assert time.monotonic() - before < 20
