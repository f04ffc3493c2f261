"""Curves of numbers in a terminal, in Braille characters: pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_FIRST = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a Braille character: two columns of four dots, from the top."""
_BARS = "▁▂▃▄▅▆▇█"


def curve(values: Sequence[float], width: int, height: int, *, log: bool = False) -> list[str]:
    """The lines of a plot of finite numbers, with its highest and lowest value at the left.

    `width` and `height` are in characters, the numbers at the left included. With `log`, values
    that are not positive are left out.
    """
    numbers = [math.log10(value) for value in values if value > 0] if log else list(values)
    if not numbers:
        return []
    low, high = min(numbers), max(numbers)
    top, bottom = (10**high, 10**low) if log else (high, low)
    labels = [f"{top:.4g}", *[""] * (height - 2), f"{bottom:.4g}"][:height]
    margin = max(map(len, labels))
    columns = max(2, 2 * (width - margin - 2))
    rows = _dots(_resampled(numbers, columns), low, high, 4 * height)
    return [
        f"{label:>{margin}} ┤{_characters(rows[4 * line : 4 * line + 4])}"
        for line, label in enumerate(labels)
    ]


def bars(percents: Sequence[float], width: int) -> str:
    """Percentages as a line of blocks, the last ones at the right."""
    return "".join(_BARS[min(7, max(0, int(percent / 12.5)))] for percent in percents[-width:])


def _resampled(values: Sequence[float], count: int) -> list[float]:
    """Means of equal parts where there are more values than columns."""
    if len(values) <= count:
        return [values[min(len(values) - 1, n * len(values) // count)] for n in range(count)]
    edges = [n * len(values) // count for n in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def _dots(values: Sequence[float], low: float, high: float, rows: int) -> list[list[bool]]:
    """Which dots are set, by row from the top; neighbours are joined."""
    span = (high - low) or 1.0
    heights = [round((rows - 1) * (high - value) / span) for value in values]
    grid = [[False] * len(values) for _ in range(rows)]
    before = heights[0]
    for column, at in enumerate(heights):
        step = 1 if at > before else -1
        for row in range(before + step, at, step) if abs(at - before) > 1 else ():
            grid[row][column] = True
        grid[at][column] = True
        before = at
    return grid


def _characters(rows: Sequence[Sequence[bool]]) -> str:
    """Four rows of dots as one line."""
    return "".join(
        chr(
            _FIRST
            + sum(
                _DOTS[side][row]
                for row in range(4)
                for side in range(2)
                if column + side < len(rows[row]) and rows[row][column + side]
            )
        )
        for column in range(0, len(rows[0]), 2)
    )
