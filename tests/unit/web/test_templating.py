from __future__ import annotations

import re

import pytest

from emulator.web.templating import (
    STATIC,
    bytes_text,
    duration,
    environment,
    moment,
    number,
    points,
    static_file,
    static_url,
)

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_536_000, "1.5 MB"),
        (123_456_789_012, "123 GB"),
        (4e18, "4000 PB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.4, "59 s"), (75, "1 min 15 s"), (3700, "1 h 01 min"), (2e5, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_can_be_read_without_a_script() -> None:
    assert moment(1_700_000_000.5) == (
        '<time datetime="2023-11-14T22:13:20.500000+00:00" data-at="1700000000.500">'
        "2023-11-14 22:13:20 UTC</time>"
    )


def test_numbers() -> None:
    assert [number(value) for value in (0.123456789, 1e-9, 3)] == ["0.12346", "1e-09", "3"]


def test_a_spark_line_ends_at_the_right_and_stays_within_its_box() -> None:
    drawn = points([0, 50, 100, 900, -5])
    pairs = [tuple(map(float, pair.split(","))) for pair in drawn.split()]
    assert pairs[-1] == (100.0, 29.0)
    assert all(0 <= x <= 100 and 0 <= y <= 30 for x, y in pairs)
    assert points([1]) == ""
    assert len(points([1.0] * 300).split()) <= 120


def test_everything_in_a_template_is_escaped() -> None:
    made = environment()
    page = made.get_template("problem.html").render(problem=HOSTILE, csrf="x")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", sorted(environment().list_templates()))
def test_no_template_has_anything_inline(name: str) -> None:
    """The content security policy would forbid it, and nobody would see why it does not work."""
    loader = environment().loader
    assert loader is not None
    source, _, _ = loader.get_source(environment(), name)
    assert not re.search(r"\son\w+\s*=|\sstyle\s*=|javascript:|\|\s*safe", source)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", source))


def test_static_files_are_those_of_the_package() -> None:
    assert re.fullmatch(r"/_emulator/ui/static/style\.css\?[0-9a-f]{12}", static_url("style.css"))
    assert static_file("style.css") == STATIC / "style.css"
    assert static_file("../pages.py") is None
    assert static_file("..") is None
