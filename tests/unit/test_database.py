from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from emulator.database import Database
from emulator.model.errors import SetupError

SCHEMA = """
CREATE TABLE parent (id INTEGER PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE child (
    parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED  -- checked at the end
);
INSERT INTO parent VALUES (1, 0);
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "test.db", (SCHEMA,))
    yield database
    database.close()


def count(database: Database) -> int:
    with database.reading() as connection:
        (value,) = connection.execute("SELECT count FROM parent").fetchone()
    return int(value)


def write(database: Database, *statements: str) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(statement)


def test_no_update_of_many_threads_is_lost(database: Database) -> None:
    def increment(_: int) -> None:
        with database.writing() as connection:
            (value,) = connection.execute("SELECT count FROM parent").fetchone()
            connection.execute("UPDATE parent SET count = ?", (value + 1,))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(increment, range(200)))
    assert count(database) == 200


def test_a_transaction_that_fails_at_its_very_end_is_undone(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        write(database, "UPDATE parent SET count = 7", "INSERT INTO child VALUES (2)")
    assert count(database) == 0
    write(database, "UPDATE parent SET count = 8")
    assert count(database) == 8


def test_an_error_undoes_what_was_done(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        write(database, "UPDATE parent SET count = 7", "UPDATE parent SET count = NULL")
    assert count(database) == 0


def test_only_new_migrations_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    Database(path, (SCHEMA,)).close()
    again = Database(path, (SCHEMA, "UPDATE parent SET count = 5;"))
    assert count(again) == 5
    again.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    Database(path, (SCHEMA,)).close()
    broken = (SCHEMA, "UPDATE parent SET count = 5; \nINSERT INTO absent VALUES (1);")
    with pytest.raises(SetupError, match="no such table"):
        Database(path, broken)
    same = Database(path, (SCHEMA,))
    assert count(same) == 0
    same.close()


def test_a_migration_without_room_says_how_much_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.sqlite3"
    Database(path, ("CREATE TABLE one (a TEXT);",)).close()
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr("emulator.database.shutil.disk_usage", lambda _: full)
    with pytest.raises(SetupError, match="takes 1 MB of disk space"):
        Database(path, ("CREATE TABLE one (a TEXT);", "CREATE TABLE two (a TEXT);"))
    Database(path, ("CREATE TABLE one (a TEXT);",)).close()
