"""The one SQLite file that keeps the truth, and how threads share it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue

from emulator.model.errors import SetupError

BUSY_SECONDS = 30.0
_COPIES = 3
"""Of the file's size, that a migration may need beside it."""
_KEPT = 16
"""Connections that nobody uses and that stay open."""
_MAPPED_BYTES = 1 << 28
"""As much of the file is read as memory; of what is beyond, pages are copied."""


class Database:
    """An open file with its schema in place.

    Any thread may use it. A connection serves one thread at a time and goes back to a
    pool, so that the threads of ended jobs leave nothing open.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        before_write: Callable[[], None] = lambda: None,
    ):
        """Open or make the file; SQL scripts it has not seen yet are applied in order.

        `before_write` is called before each transaction that may change something. Raises
        SetupError where the file is unusable or was made by a newer version.
        """
        self.path = path
        self._before_write = before_write
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._migrate(migrations)
        except (OSError, sqlite3.DatabaseError) as error:
            raise SetupError(
                f"The database {path} cannot be used: {error}.",
                "Choose another state directory or move the file away.",
            ) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to query; every statement sees what is committed by then."""
        connection = self._take()
        try:
            yield connection
        finally:
            # A moment with many threads must not leave many files open.
            if self._idle.qsize() < _KEPT:
                self._idle.put(connection)
            else:
                connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start: read, decide, change."""
        self._before_write()
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # Some errors, such as a full disk, have rolled it back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _refuse_without_space(self) -> None:
        """A script may write all rows anew, into the file and into its log. Raises SetupError."""
        needed = _COPIES * self.path.stat().st_size
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise SetupError(
                f"The database {self.path} is of an earlier version. Bringing it up to date takes "
                f"{_readable(needed)} of disk space, and {_readable(free)} are free.",
                "Make room on this disk.",
            )

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # Under WAL this survives a killed process; only a power cut can lose the last changes.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Reading takes no longer where the file is larger than a connection's own cache. WAL
        # maps a file into memory anyway.
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        return connection

    def _migrate(self, migrations: Sequence[str]) -> None:
        with self.writing() as connection:
            (applied,) = connection.execute("PRAGMA user_version").fetchone()
            if 0 < applied < len(migrations):
                self._refuse_without_space()
            if applied > len(migrations):
                raise SetupError(
                    f"The database {self.path} was made by a newer version of the emulator.",
                    "Update the emulator or choose another state directory.",
                )
            for script in migrations[applied:]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _readable(size: int) -> str:
    return f"{max(1, size >> 20)} MB"


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: executescript() would commit on its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
