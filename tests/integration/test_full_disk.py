"""A disk that is really full: a small file system of its own. Needs the right to mount one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.data.objectstore.disk_reserve import Reserve
from emulator.database import Database
from emulator.model.errors import SetupError

MIB = 1 << 20
SCHEMA = ("CREATE TABLE t (x);",)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """48 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Until not one byte more fits."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def add(database: Database) -> None:
    with database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(50000))")


def add_many(database: Database) -> None:
    for _ in range(10):
        add(database)


def test_changes_find_room_for_as_long_as_the_reserve_lasts(disk: Path) -> None:
    reserve = Reserve(disk, 8 * MIB)
    reserve.release_to_start()
    database = Database(disk / "db", SCHEMA, reserve.make_room)
    for left in (7, 6, 5):
        fill(disk)
        assert os.statvfs(disk).f_bavail == 0
        add(database)
        assert (disk / "reserve").stat().st_size == left * MIB
    (disk / "filler").unlink()
    add(database)
    assert (disk / "reserve").stat().st_size == 8 * MIB
    database.close()


def test_without_a_reserve_nothing_can_be_changed(disk: Path) -> None:
    database = Database(disk / "db", SCHEMA)
    fill(disk)
    with pytest.raises(sqlite3.OperationalError, match=r"full|I/O"):
        add_many(database)
    database.close()


def test_a_start_on_a_full_disk_opens_its_database(disk: Path) -> None:
    Reserve(disk, 16 * MIB).release_to_start()
    fill(disk)
    reserve = Reserve(disk, 16 * MIB)
    reserve.release_to_start()
    database = Database(disk / "db", SCHEMA, reserve.make_room)
    add(database)
    database.close()
    fill(disk)
    reserve.release_to_start()
    fill(disk)
    with pytest.raises(SetupError, match="is full"):
        Reserve(disk, 16 * MIB).release_to_start()
