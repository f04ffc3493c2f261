"""Copies that share what they can and are still files of their own."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from emulator.data.cache import reflink as module
from emulator.data.cache.reflink import clone
from emulator.data.objectstore.objects import Cancelled, never

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(CONTENT)
    return tmp_path / "source"


def test_a_copy_is_a_file_of_its_own(source: Path) -> None:
    target = source.with_name("target")
    clone(source, target, never)
    assert target.read_bytes() == CONTENT
    target.write_bytes(b"changed")
    assert source.read_bytes() == CONTENT
    assert source.stat().st_nlink == 1


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_kernel_cannot_copy(
    source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(code, "not here")

    monkeypatch.setattr(module, "_share", lambda *_: False)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    clone(source, source.with_name("target"), never)
    assert source.with_name("target").read_bytes() == CONTENT


def test_a_kernel_that_copies_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_share", lambda *_: False)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    clone(source, source.with_name("target"), never)
    assert source.with_name("target").read_bytes() == CONTENT


def test_a_full_disk_is_not_tried_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_share", lambda *_: False)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        clone(source, source.with_name("target"), never)


def test_a_copy_can_be_cancelled(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_share", lambda *_: False)
    with pytest.raises(Cancelled):
        clone(source, source.with_name("target"), lambda: True)


def test_an_existing_file_is_kept(source: Path) -> None:
    source.with_name("target").write_text("mine")
    with pytest.raises(FileExistsError):
        clone(source, source.with_name("target"), never)
    assert source.with_name("target").read_text() == "mine"
