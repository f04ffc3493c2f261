"""Disk space kept back for the emulator, on a disk that is only counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.data.objectstore.disk_reserve import Reserve
from emulator.database import Database
from emulator.model.errors import SetupError

MIB = 1 << 20


class Counted(Reserve):
    """A reserve of 32 MiB on a disk of 200 MiB, of which others take `taken`."""

    def __init__(self, root: Path, taken: int = 0, size: int = 32 * MIB):
        self.taken = taken
        super().__init__(root, size)

    def _free(self) -> int:
        return max(0, 200 * MIB - self.taken - held(self._directory))

    def fill_up(self) -> None:
        self.taken += self._free()


def held(root: Path) -> int:
    file = root / "reserve"
    return file.stat().st_size if file.exists() else 0


def test_it_takes_its_space_at_the_start(tmp_path: Path) -> None:
    Counted(tmp_path).release_to_start()
    assert held(tmp_path) == 32 * MIB
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 32 * MIB


def test_a_job_that_fills_the_disk_does_not_get_it_at_once(tmp_path: Path) -> None:
    reserve = Counted(tmp_path)
    reserve.release_to_start()
    for left in (31, 30, 29):
        reserve.fill_up()
        reserve.make_room()
        assert held(tmp_path) == left * MIB
        assert reserve._free() == MIB
    reserve.make_room()
    assert held(tmp_path) == 29 * MIB


def test_each_change_of_a_database_finds_room(tmp_path: Path) -> None:
    reserve = Counted(tmp_path)
    reserve.release_to_start()
    database = Database(tmp_path / "db", ("CREATE TABLE t (x);",), reserve.make_room)
    reserve.fill_up()
    with database.writing() as connection:
        assert reserve._free() == MIB
        connection.execute("INSERT INTO t VALUES (1)")
    database.close()


def test_it_is_made_whole_when_there_is_room_for_more_than_itself(tmp_path: Path) -> None:
    reserve = Counted(tmp_path)
    reserve.release_to_start()
    reserve.fill_up()
    reserve.make_room()
    reserve.taken -= 40 * MIB
    reserve.make_room()
    assert held(tmp_path) == 31 * MIB
    reserve.taken = 0
    reserve.make_room()
    assert held(tmp_path) == 32 * MIB


def test_a_start_on_a_full_disk_gets_what_it_needs(tmp_path: Path) -> None:
    first = Counted(tmp_path)
    first.release_to_start()
    first.fill_up()
    second = Counted(tmp_path, first.taken)
    second.release_to_start()
    assert held(tmp_path) == 24 * MIB
    assert second._free() == 8 * MIB


def test_a_start_without_room_says_what_is_full_and_what_may_go(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as refused:
        Counted(tmp_path, taken=200 * MIB).release_to_start()
    assert f"The disk of {tmp_path} is full" in refused.value.problem
    assert str(tmp_path / "cache") in refused.value.remedy


def test_without_a_size_nothing_is_kept_back(tmp_path: Path) -> None:
    reserve = Counted(tmp_path, size=0)
    reserve.release_to_start()
    reserve.fill_up()
    reserve.make_room()
    assert held(tmp_path) == 0


def test_a_user_may_remove_it(tmp_path: Path) -> None:
    reserve = Counted(tmp_path)
    reserve.release_to_start()
    reserve.fill_up()
    (tmp_path / "reserve").unlink()
    reserve.taken += 32 * MIB
    reserve.make_room()
    reserve.make_room()
    assert held(tmp_path) == 0
    reserve.taken = 0
    reserve.make_room()
    assert held(tmp_path) == 32 * MIB


@pytest.mark.parametrize("size", [0, 8 * MIB])
def test_a_smaller_setting_makes_it_smaller(tmp_path: Path, size: int) -> None:
    Counted(tmp_path).release_to_start()
    Counted(tmp_path, size=size).release_to_start()
    assert held(tmp_path) == size
