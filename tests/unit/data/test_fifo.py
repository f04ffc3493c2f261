"""A pipe that a script has replaced."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest

from emulator.data.inputs.fifo import Fifo


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_a_pipe_lives_as_long_as_its_context(data: Path) -> None:
    with Fifo(data / "train_0", Event()) as fifo:
        reader = os.open(data / "train_0", os.O_RDONLY | os.O_NONBLOCK)
        assert fifo.wait_for_reader()
        fifo.write(b"x")
        assert os.read(reader, 10) == b"x"
        os.close(reader)
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("link", [True, False])
def test_nothing_is_written_to_what_takes_its_place(tmp_path: Path, data: Path, link: bool) -> None:
    (tmp_path / "precious").write_text("not the job's")
    with Fifo(data / "train_0", Event()) as fifo:
        (data / "train_0").unlink()
        if link:
            (data / "train_0").symlink_to(tmp_path / "precious")
        else:
            (data / "train_0").hardlink_to(tmp_path / "precious")
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's choice
            fifo.wait_for_reader()
    assert (tmp_path / "precious").read_text() == "not the job's"


def test_no_pipe_is_made_behind_a_link(tmp_path: Path, data: Path) -> None:
    (tmp_path / "home").mkdir()
    data.rmdir()
    data.symlink_to(tmp_path / "home")
    with pytest.raises(NotADirectoryError), Fifo(data / "train_1", Event()):
        pass
    assert list((tmp_path / "home").iterdir()) == []


def test_a_link_two_directories_up_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "home" / "b").mkdir(parents=True)
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "a").symlink_to(tmp_path / "home")
    with pytest.raises(NotADirectoryError), Fifo(tmp_path / "volume/a/b/pipe_1", Event(), depth=2):
        pass
    assert not list((tmp_path / "home" / "b").iterdir())
