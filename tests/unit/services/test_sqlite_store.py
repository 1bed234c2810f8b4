"""What only this store can do wrong."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bettong_catalog.sqlite_store import SCHEMA_VERSION, SqliteStore
from bettong_catalog.store import Transaction
from bettong_kit.errors import BettongError, CorruptDataError, DataFolderError, NoSpaceError


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "state.db")
    yield opened
    await opened.close()


async def test_commits_are_synced_before_they_are_answered(store: SqliteStore) -> None:
    """WAL's default would lose the last answers at a power cut."""
    mode = await store._call(lambda connection: connection.execute("PRAGMA journal_mode").fetchone())
    synchronous = await store._call(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    assert (mode, synchronous) == (("wal",), (2,))


async def test_a_full_disk_changes_nothing(store: SqliteStore) -> None:
    """The change is refused as a whole, and the next small one is taken."""
    await store.commit(Transaction(puts={"a": b"1"}))
    pages = await store._call(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await store._call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 1}").fetchone())
    with pytest.raises(NoSpaceError, match="nothing was changed"):
        await store.commit(Transaction(puts={"a": b"2", "b": b"x" * 1_000_000}))
    await store.commit(Transaction(puts={"c": b"3"}))
    assert [(entry.key, entry.value) for entry in await store.list("")] == [("a", b"1"), ("c", b"3")]


async def test_other_trouble_is_an_error_of_ours(store: SqliteStore) -> None:
    """No database error leaves this layer under its own name."""
    with pytest.raises(BettongError, match="cannot be read or written"):
        await store._call(lambda connection: connection.execute("SELECT nonsense"))


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """An old server must not write what it does not understand."""
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(DataFolderError, match=f"schema {SCHEMA_VERSION + 1}, this version reads {SCHEMA_VERSION}"):
        SqliteStore(tmp_path / "state.db")


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    """The message says which file."""
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(DataFolderError, match=r"state\.db cannot be opened"):
        SqliteStore(tmp_path / "state.db")


async def test_damage_is_told_from_other_trouble(tmp_path: Path) -> None:
    """An operator learns that a copy is needed."""
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    await store.commit(Transaction(puts={f"key{number}": b"x" * 1_000 for number in range(100)}))
    await store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    damaged = SqliteStore(path)
    with pytest.raises(CorruptDataError, match="restore the data folder"):
        await damaged.list("")
    await damaged.close()
