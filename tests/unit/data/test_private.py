"""Who may look into a state directory."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from emulator.data.private_directory import make_private

MARKS = ("emulator.sqlite3", "client")


def mode(directory: Path) -> int:
    return stat.S_IMODE(directory.stat().st_mode)


def test_a_new_one_is_its_owners_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "new" / "state", MARKS)
    assert mode(tmp_path / "new" / "state") == 0o700


@pytest.mark.parametrize("content", [(), ("emulator.sqlite3", "jobs"), ("client",)])
def test_an_earlier_one_is_closed(tmp_path: Path, content: tuple[str, ...]) -> None:
    tmp_path.chmod(0o755)
    for name in content:
        (tmp_path / name).touch()
    make_private(tmp_path, MARKS)
    assert mode(tmp_path) == 0o700


def test_one_with_other_things_in_it_stays_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()
    with caplog.at_level(logging.WARNING):
        make_private(tmp_path, MARKS)
    assert mode(tmp_path) == 0o755
    assert "other users may look into" in caplog.text
