"""Texts that fit into a FailureReason, and disks that are full."""

from __future__ import annotations

import errno
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.model.errors import InternalServerError, disk_full, shortened


@given(st.text(max_size=400), st.integers(40, 300))
def test_a_shortened_text_has_its_beginning_and_its_end(text: str, room: int) -> None:
    short = shortened(text, room)
    assert len(short) <= room
    if len(text) <= room:
        assert short == text
    else:
        assert len(short) == room
        assert short[: room // 4] == text[: room // 4]
        assert short[-(room // 2) :] == text[-(room // 2) :]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "No space left on device: /a/b"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: /job"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a"), "Disk quota exceeded: /a"),
        (
            sqlite3.OperationalError("database or disk is full"),
            "No space left on device: the database of the emulator, /job",
        ),
        (OSError(errno.EACCES, "Permission denied", "/a"), None),
        (sqlite3.OperationalError("database is locked"), None),
    ],
)
def test_a_full_disk_is_told_with_where(error: Exception, told: str | None) -> None:
    assert disk_full(error, "/job") == told
    outer = InternalServerError("what is told of it")
    outer.__cause__ = error
    assert disk_full(outer, "/job") == told
