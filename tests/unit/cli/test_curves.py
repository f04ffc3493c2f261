from __future__ import annotations

import pytest

from emulator.cli.curves import bars, curve


def test_a_line_that_rises_goes_from_the_lower_left_to_the_upper_right() -> None:
    assert curve([0, 1, 2, 3, 4, 5, 6, 7], width=7, height=2) == ["7 ┤⠀⠀⡠⠊", "0 ┤⡠⠊⠀⠀"]


def test_a_constant_is_a_line() -> None:
    assert curve([5.0], width=5, height=2) == ["5 ┤⠉⠉", "5 ┤⠀⠀"]


def test_many_values_are_averaged() -> None:
    lines = curve([0.0, 10.0] * 5000, width=12, height=4)
    assert len(lines) == 4
    assert {len(line) for line in lines} == {12}


def test_a_logarithmic_scale_leaves_out_what_has_no_logarithm() -> None:
    lines = curve([0.001, 0.01, 0, -3, 0.1], width=20, height=4, log=True)
    assert (lines[0].split(" ")[0].strip(), lines[-1].split(" ")[0]) == ("", "0.001")
    assert curve([0, -1], 20, 4, log=True) == []


@pytest.mark.parametrize(("percents", "drawn"), [([], ""), ([0, 50, 100, 400, -1], "▁▅██▁")])
def test_bars(percents: list[float], drawn: str) -> None:
    assert bars(percents, 10) == drawn
    assert bars(percents, 2) == drawn[-2:]
