from __future__ import annotations

import io
import json
import re
import signal
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.telemetry.logs.metric_definitions import (
    LINE_BYTES,
    PATIENCE,
    MetricScanner,
    TooSlow,
    compile_metric,
    scan,
    values_in,
)


def single(value: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return rounded


@pytest.mark.parametrize(
    ("pattern", "line", "values"),
    [
        ("loss: ([0-9.]+)", "epoch 1 loss: 0.25 acc: 0.5", [0.25]),
        ("loss: ([0-9.]+)", "nothing of it", []),
        (r"Train_error=(.*?);", "Train_error=0.5;Train_error= 0.75 ;", [0.5, 0.75]),
        (r"(?<kind>loss)=(\S+)", "loss=1", []),  # group 1 is the word
        (r"x=(\S+)", "x=-1.5e-3", [single(-1.5e-3)]),
        (r"x=(\S+)", "x=nan x=inf x=-Infinity x=1e39 x=1_000 x=", []),
        (r"x=(\d+)?", "x= x=3", [3.0]),
        ("loss", "loss", []),
        (r"(\d+)", "١٢", [12.0]),
    ],
)
def test_group_1_is_the_value(pattern: str, line: str, values: list[float]) -> None:
    assert values_in(compile_metric(pattern), line) == values


def test_values_have_single_precision_as_the_service_gives_them() -> None:
    found = values_in(compile_metric("=(.*)"), "=1.19876")
    assert found == [1.1987600326538086]


@pytest.mark.parametrize(
    "pattern",
    ["(", "*a", "a{2,1}", "[z-a]", r"\2(a)", "(?P<n>a)(?P<n>b)", "(?R)", "a{99999999999}"],
)
def test_what_is_no_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        compile_metric(pattern)


@given(st.text(min_size=1, max_size=500))
def test_any_text_compiles_or_is_refused(pattern: str) -> None:
    try:
        compiled = compile_metric(pattern)
    except ValueError:
        return
    assert isinstance(compiled, re.Pattern)


@given(
    values=st.lists(st.integers(0, 10**6), max_size=30),
    end=st.sampled_from([b"\n", b"\r", b"\r\n"]),
    cuts=st.lists(st.integers(0, 500)),
)
def test_pieces_make_no_difference(values: list[int], end: bytes, cuts: list[int]) -> None:
    data = b"".join(b"step loss=%d.5 end" % value + end for value in values)
    scanner = MetricScanner([r"loss=(\S+)"])
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = [item for at, to in pairwise(edges) for item in scanner.feed("h", data[at:to])]
    found += scanner.finish("h")
    assert found == [(0, single(value + 0.5)) for value in values]


def test_hosts_do_not_mix_and_a_last_line_needs_no_end() -> None:
    scanner = MetricScanner([r"a=(\d+)", r"b=(\d+)"])
    assert list(scanner.feed("algo-1", b"b=1 a=")) == []
    assert list(scanner.feed("algo-2", b"2 a=7\n")) == [(0, 7.0)]
    assert list(scanner.feed("algo-1", b"23")) == []
    assert list(scanner.finish("algo-1")) == [(0, 23.0), (1, 1.0)]
    assert list(scanner.finish("algo-1")) == []


def test_after_a_gap_nothing_is_put_together() -> None:
    scanner = MetricScanner([r"a=(\d+)"])
    list(scanner.feed("h", b"a=1"))
    scanner.forget("h")
    assert list(scanner.feed("h", b"2\na=3\n")) == [(0, 3.0)]


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    scanner = MetricScanner([r"^a=(\d+)", r"(\d+)$"])
    list(scanner.feed("h", b"a=1 "))
    for _ in range(3):
        list(scanner.feed("h", b"x" * LINE_BYTES))
    assert list(scanner.feed("h", b" 2\n")) == [(0, 1.0)]


def test_a_definition_that_is_too_slow_is_dropped_and_the_others_go_on() -> None:
    slow = compile_metric("slow")

    def search(pattern: re.Pattern[str], line: str) -> list[float]:
        if pattern == slow:
            raise TooSlow
        return values_in(pattern, line)

    scanner = MetricScanner(["slow", r"x=(\d+)"], search)
    for number in range(PATIENCE):
        assert scanner.dropped() == []
        assert list(scanner.feed("h", b"x=%d\n" % number)) == [(1, float(number))]
    assert scanner.dropped() == [0]
    assert list(scanner.feed("h", b"x=1\n")) == [(1, 1.0)]


def test_the_program_answers_every_record() -> None:
    def record(kind: str, data: bytes = b"") -> bytes:
        return json.dumps([kind, "h", len(data)]).encode() + b"\n" + data

    source = io.BytesIO(
        json.dumps([r"x=(\d+)"]).encode()
        + b"\n"
        + record("data", b"x=1\nx=2\nx=")
        + record("forget")
        + record("data", b"x=3")
        + record("finish")
    )
    target = io.StringIO()
    scan(source, target)
    answers = [json.loads(line) for line in target.getvalue().splitlines()]
    assert answers == [[[[0, 1.0], [0, 2.0]], []], [[], []], [[], []], [[[0, 3.0]], []]]


def test_no_timer_ticks_on_when_there_is_nothing_more_to_search() -> None:
    before = signal.getsignal(signal.SIGPROF)
    scan(io.BytesIO(b'["x=(.*)"]\n'), io.StringIO())
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) is before
