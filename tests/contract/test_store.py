"""What every store must do, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest
from fakes.clock import ManualClock
from fakes.etcd import EtcdCluster, emptied_client

from bettong_catalog.etcd_store import EtcdStore
from bettong_catalog.followed_store import FollowedStore
from bettong_catalog.sqlite_store import SqliteStore
from bettong_catalog.store import ABSENT, Store, Transaction
from bettong_kit.errors import ConflictError
from bettong_kit.etcd.mirror import Snapshot

OpenStore = Callable[[], Store]


@pytest.fixture
async def sqlite(tmp_path: Path) -> OpenStore:
    """Open a file."""
    return lambda: SqliteStore(tmp_path / "state.db")


@pytest.fixture
async def etcd(shared_etcd: EtcdCluster) -> AsyncIterator[OpenStore]:
    """Use an etcd that has other keys as well."""
    async with emptied_client(shared_etcd.settings()) as client:
        await client.put("/bettong/test/desired", b"")
        await client.put("/bettong/test/desired0", b"")
        yield lambda: EtcdStore(client, "/bettong/test")


@pytest.fixture
async def behind(etcd: OpenStore) -> OpenStore:
    """Use etcd beside a copy that has lost its watch before the first change."""
    clock = ManualClock()
    copy = Snapshot(lost_since_ms=clock.epoch_ms(), lost_since_s=clock.monotonic_s(), lost_reason="the leader died")
    return lambda: FollowedStore(etcd(), lambda: copy, "/bettong/test/desired/", clock)


@pytest.fixture(params=["behind", "etcd", "sqlite"])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    """Return what opens the same store again and again."""
    return cast("OpenStore", request.getfixturevalue(request.param))


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """Open an empty store."""
    opened = open_store()
    yield opened
    await opened.close()


async def _put(store: Store, **values: bytes) -> int:
    return await store.commit(Transaction(puts=values))


async def test_what_was_put_is_there(store: Store) -> None:
    """A key has the value and the revision of its last write."""
    first = await _put(store, a=b"1")
    second = await _put(store, a=b"\x00\xff")
    entry = await store.get("a")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == ("a", b"\x00\xff", second)
    assert second > first


async def test_what_was_never_put_is_absent(store: Store) -> None:
    """Asking is not an error."""
    assert await store.get("a") is None
    assert await store.list("") == []


async def test_a_list_has_the_keys_of_a_prefix_in_order(store: Store) -> None:
    """A prefix is plain text: its neighbours are not part of it."""
    await store.commit(Transaction(puts={"a/2": b"", "a/1": b"", "a0": b"", "b/1": b"", "a": b""}))
    assert [entry.key for entry in await store.list("a/")] == ["a/1", "a/2"]


async def test_a_prefix_has_no_wild_cards(store: Store) -> None:
    """Characters that a query language knows are characters here."""
    await store.commit(Transaction(puts={"a%": b"", "ab": b"", "a_": b"", "a*": b""}))
    assert [[entry.key for entry in await store.list(prefix)] for prefix in ("a%", "a_", "a*")] == [
        ["a%"],
        ["a_"],
        ["a*"],
    ]


async def test_deleted_keys_are_gone(store: Store) -> None:
    """Deleting what is not there is fine."""
    await _put(store, a=b"1", b=b"2")
    await store.commit(Transaction(deletes=["a", "never"]))
    assert [entry.key for entry in await store.list("")] == ["b"]


async def test_a_key_that_comes_back_is_newer(store: Store) -> None:
    """A guard cannot mistake a new key for the one that was deleted."""
    first = await _put(store, a=b"1")
    await store.commit(Transaction(deletes=["a"]))
    again = await _put(store, a=b"1")
    assert again > first
    with pytest.raises(ConflictError):
        await store.commit(Transaction(guards={"a": first}, puts={"a": b"2"}))


async def test_a_guard_that_holds_lets_the_change_through(store: Store) -> None:
    """Absent and known revisions can both be asked for."""
    revision = await store.commit(Transaction(guards={"a": ABSENT}, puts={"a": b"1"}))
    await store.commit(Transaction(guards={"a": revision, "b": ABSENT}, puts={"b": b"2"}))
    assert [entry.value for entry in await store.list("")] == [b"1", b"2"]


async def test_a_guard_that_fails_changes_nothing(store: Store) -> None:
    """All or nothing, whichever guard it was."""
    revision = await _put(store, a=b"1")
    for guards in ({"a": revision + 1}, {"a": ABSENT}, {"a": revision, "b": 1}):
        with pytest.raises(ConflictError):
            await store.commit(Transaction(guards=guards, puts={"a": b"2", "c": b"3"}, deletes=["a"]))
    assert [(entry.key, entry.value) for entry in await store.list("")] == [("a", b"1")]


async def test_what_is_removed_and_written_is_there(store: Store) -> None:
    """Of a key that a transaction has twice, the writing counts."""
    await _put(store, a=b"1")
    await store.commit(Transaction(puts={"a": b"2"}, deletes=["a", "a"]))
    entry = await store.get("a")
    assert entry is not None
    assert entry.value == b"2"


async def test_of_many_writers_each_change_counts_once(store: Store) -> None:
    """Guarded counting loses nothing, however many count at once."""

    async def count() -> None:
        while True:
            entry = await store.get("n")
            guards = {"n": entry.revision if entry else ABSENT}
            value = b"%d" % (int(entry.value) + 1 if entry else 1)
            try:
                await store.commit(Transaction(guards=guards, puts={"n": value}))
            except ConflictError:
                continue
            return

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(count())
    entry = await store.get("n")
    assert entry is not None
    assert entry.value == b"10"


async def test_what_was_committed_is_there_after_closing(open_store: OpenStore) -> None:
    """Keys, values and the counting of revisions go on."""
    before = open_store()
    revision = await _put(before, a=b"1")
    await before.close()
    after = open_store()
    entry = await after.get("a")
    later = await _put(after, b=b"2")
    await after.close()
    assert entry is not None
    assert (entry.value, entry.revision) == (b"1", revision)
    assert later > revision
