"""Filter patterns for fields between spaces: the user guide's rules, one by one."""

from __future__ import annotations

import pytest

from emulator.telemetry.logs.patterns import UnusablePattern, compile_pattern

LINE = '10.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    "pattern",
    [
        "[ip, user, username, timestamp, request, status_code, bytes]",
        "[..., status_code, bytes]",
        "[ip, user, ..., status_code, bytes]",
        "[ip, user, ...]",
        "[...]",
        "[a, b, c, d, e, f, g, ...]",
        "[ip, user, username, timestamp, request, status_code, bytes > 1000]",
        "[ip, user, username, timestamp, request, status_code = 404, bytes]",
        "[ip, user, username, timestamp, request = *html*, status_code = 4*, bytes]",
        "[ip, ..., status_code = 4* && status_code != 403, bytes]",
        "[ip, ..., status_code=4* && bytes > 1000, bytes]",
        "[ip=10.0.*, ..., status_code=500 || status_code=404, bytes]",
        "[ip, user=-, ...]",
        '[ip, user, username="frank", ...]',
        "[ip, user, username, timestamp=10/Oct/2000*, ...]",
        "[..., request=*.html*, status_code=4*,]",
        "[,,,,,,]",
        "[..., status_code=!500, bytes]",
        "[..., (code=1 || code=404) && size<2000, size]",
        "[...,code=404.0,size>=1.534e3]",
    ],
)
def test_what_is_found(pattern: str) -> None:
    assert compile_pattern(pattern)(LINE)


@pytest.mark.parametrize(
    "pattern",
    [
        "[ip, user, username]",
        "[a, b, c, d, e, f, g, h]",
        "[a, b, c, d, e, f, g, ..., h]",
        "[..., status_code = 5*, bytes]",
        "[..., bytes < 1000]",
        "[ip, user > 1, ...]",
        "[ip, ..., status_code = 4* && status_code != 404, bytes]",
        "[]",
    ],
)
def test_what_is_not_found(pattern: str) -> None:
    assert not compile_pattern(pattern)(LINE)


def test_lines_of_a_training_script() -> None:
    lines = ["epoch=1 loss 0.5", "epoch=2 loss 0.25", "epoch=3 loss nan", "loss 0.1"]
    matches = compile_pattern("[epoch, word=loss, value<0.4]")
    assert [line for line in lines if matches(line)] == ["epoch=2 loss 0.25"]


@pytest.mark.parametrize(
    "pattern",
    [
        "[a, a]",
        "[..., a, ...]",
        "[a=]",
        "[a b]",
        "[a=1 && b=2]",
        "[a && a=1]",
        "[a < b]",
        "[a=1 b]",
        "[(a=1]",
        '["open]',
        "[=1]",
        "[a,",
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(UnusablePattern, match="Invalid"):
        compile_pattern(pattern)
