"""Desired state in one SQLite file: durable at each commit, readable after any crash."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bettong_catalog.store import ABSENT, Entry, Transaction
from bettong_kit.errors import BettongError, ConflictError, CorruptDataError, DataFolderError, NoSpaceError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE clock (revision INTEGER NOT NULL);
INSERT INTO clock VALUES (0);
"""
_LAST_CHARACTER = "\U0010ffff"
_BUSY_TIMEOUT_S = 5.0
# The last one is the write-ahead log's index, the first thing that a start needs room for.
_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"})

ResultT = TypeVar("ResultT")


class SqliteStore:
    """One connection on one thread: SQLite has a single writer, and a queue in front of it is fairer than its busy loop."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            DataFolderError: It is not a store, was written by a newer version, or cannot be opened.
        """
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            self._connection = self._thread.submit(_open, path).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None."""
        return await self._call(lambda connection: _get(connection, key))

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered."""
        return await self._call(lambda connection: _list(connection, prefix))

    async def commit(self, transaction: Transaction) -> int:
        """Apply a transaction; see `Store.commit`."""
        return await self._call(lambda connection: _commit(connection, transaction))

    async def close(self) -> None:
        """Finish what is queued and close the file."""
        await self._call(lambda connection: connection.close())
        self._thread.shutdown()

    async def _call(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _guarded, work, self._connection)


def _guarded(work: Callable[[sqlite3.Connection], ResultT], connection: sqlite3.Connection) -> ResultT:
    """Run *work* and give SQLite's errors our names."""
    try:
        return work(connection)
    except sqlite3.Error as error:
        raise _translated(error) from error


def _translated(error: sqlite3.Error) -> BettongError:
    kind = _kind(error)
    if kind in _FULL:
        return NoSpaceError("no space left for the desired state; nothing was changed")
    if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptDataError("the desired state is damaged; restore the data folder from a copy")
    return BettongError(f"the desired state cannot be read or written: {error}")


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=True)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        reason = "no space left on its disk" if _kind(error) in _FULL else error
        raise DataFolderError(f"{path} cannot be opened as desired state: {reason}") from error
    return connection


def _kind(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # WAL's default syncs at checkpoints only: a power cut could take back a change that was answered.
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise DataFolderError(f"{path} has schema {version}, this version reads {SCHEMA_VERSION}; use a newer version")


def _get(connection: sqlite3.Connection, key: str) -> Entry | None:
    row = connection.execute("SELECT key, value, revision FROM entries WHERE key = ?", (key,)).fetchone()
    return Entry(*row) if row else None


def _list(connection: sqlite3.Connection, prefix: str) -> list[Entry]:
    query = "SELECT key, value, revision FROM entries WHERE key >= ? AND key < ? ORDER BY key"
    return [Entry(*row) for row in connection.execute(query, (prefix, prefix + _LAST_CHARACTER))]


def _commit(connection: sqlite3.Connection, transaction: Transaction) -> int:
    with _writing(connection):
        for key, expected in transaction.guards.items():
            entry = _get(connection, key)
            if (entry.revision if entry else ABSENT) != expected:
                raise ConflictError("somebody else changed it at the same time; try again")
        (revision,) = connection.execute("UPDATE clock SET revision = revision + 1 RETURNING revision").fetchone()
        connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in transaction.deletes])
        connection.executemany(
            "INSERT INTO entries VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3",
            [(key, value, revision) for key, value in transaction.puts.items()],
        )
    return int(revision)


@contextlib.contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk SQLite may have rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
