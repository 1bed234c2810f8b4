"""Desired state of a cluster while etcd is away."""

import asyncio
from dataclasses import replace

import pytest
from fakes.clock import ManualClock
from fakes.sight import PREFIX, FakeSight

from bettong_catalog import followed_store
from bettong_catalog.followed_store import FollowedStore
from bettong_catalog.store import Entry, Transaction
from bettong_kit.errors import CoordinationLostError
from bettong_kit.etcd.mirror import Snapshot

LOST = CoordinationLostError("etcd did not answer")


class Unreliable(FakeSight):
    """A store that can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self.stuck = False
        self.asked = 0

    async def get(self, key: str) -> Entry | None:
        self._ask()
        return await super().get(key)

    async def list(self, prefix: str) -> list[Entry]:
        self._ask()
        return await super().list(prefix)

    async def commit(self, transaction: Transaction) -> int:
        self._ask()
        if self.stuck:
            await asyncio.Event().wait()
        return await super().commit(transaction)

    def _ask(self) -> None:
        self.asked += 1
        if self.lost:
            raise LOST


@pytest.fixture
def etcd() -> Unreliable:
    """Return a store that answers."""
    return Unreliable()


def followed(etcd: Unreliable, clock: ManualClock, *, lost_ms: int | None = None) -> FollowedStore:
    def snapshot() -> Snapshot:
        return replace(etcd.desired, lost_since_ms=lost_ms, lost_reason="refused")

    return FollowedStore(etcd, snapshot, PREFIX, clock)


async def test_reads_are_of_the_copy_while_etcd_is_away(etcd: Unreliable) -> None:
    """Whether that is known already or found out by asking; while etcd answers, it is asked."""
    clock = ManualClock()
    store = followed(etcd, clock)
    await store.commit(Transaction(puts={"a/1": b"x"}))
    assert [entry.value for entry in await store.list("a/")] == [b"x"]
    assert (etcd.asked, (await store.get("a/1")) is not None, etcd.asked) == (2, True, 3)
    etcd.lost = True
    entry = Entry("a/1", b"x", 1)
    assert (await store.get("a/1"), await store.list("a/")) == (entry, [entry])
    asked = etcd.asked
    known = followed(etcd, clock, lost_ms=clock.epoch_ms())
    assert (await known.get("a/1"), await known.list("a/"), await known.get("b")) == (entry, [entry], None)
    assert etcd.asked == asked


async def test_changes_wait_for_an_election_and_not_for_ever(etcd: Unreliable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just lost: etcd is asked. Lost for long: refused at once, and nothing can have happened. Stuck: given up."""
    clock = ManualClock()
    change = Transaction(puts={"a": b"x"})
    store = followed(etcd, clock, lost_ms=clock.epoch_ms())
    clock.advance(2)
    assert await store.commit(change) == 1
    clock.advance(5)
    with pytest.raises(CoordinationLostError, match="has not answered for 7 s, nothing was changed: refused"):
        await store.commit(change)
    assert etcd.asked == 1
    monkeypatch.setattr(followed_store, "_CHANGE_S", 0.01)
    etcd.stuck = True
    with pytest.raises(CoordinationLostError, match="may have happened"):
        await followed(etcd, clock).commit(change)
