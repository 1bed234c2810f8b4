"""What desired state in etcd promises beyond what every store does."""

import asyncio

from bettong_catalog.etcd_store import EtcdStore
from bettong_catalog.store import ABSENT, Transaction
from bettong_kit.etcd.client import EtcdClient, Guarded, Outcome

ROOT = "/bettong/test"


class _AnswersGetLost(EtcdClient):
    """Does each change, loses its answer, and tries again: what a dying server makes of a call."""

    async def commit(self, change: Guarded) -> Outcome:
        await super().commit(change)
        return await super().commit(change)


async def test_a_change_whose_answer_was_lost_counts_once(client: EtcdClient) -> None:
    """The second attempt finds the first, and says at which revision that was."""
    unlucky = _AnswersGetLost(client.connection.settings)
    store = EtcdStore(unlucky, ROOT)
    revision = await store.commit(Transaction(guards={"a": ABSENT}, puts={"a": b"1"}))
    entry = await store.get("a")
    assert entry is not None
    assert (entry.revision, entry.value) == (revision, b"1")
    again = await store.commit(Transaction(guards={"a": revision}, deletes=["a"]))
    assert again > revision
    assert await store.list("") == []
    await store.close()
    await unlucky.close()


async def test_markers_do_not_pile_up(client: EtcdClient) -> None:
    """Each process has one at most, and none when it has closed its store."""
    store = EtcdStore(client, ROOT)
    await asyncio.gather(*(store.commit(Transaction(puts={f"k{number}": b""})) for number in range(20)))
    assert len((await client.list(f"{ROOT}/writers/")).entries) == 1
    await store.close()
    assert (await client.list(f"{ROOT}/writers/")).entries == ()
    assert len((await client.list(f"{ROOT}/desired/")).entries) == 20


async def test_a_lease_that_is_gone_is_no_failure(client: EtcdClient) -> None:
    """The change gets a new one, and happens."""
    store = EtcdStore(client, ROOT)
    await store.commit(Transaction(puts={"a": b"1"}))
    await client.revoke((await client.list(f"{ROOT}/writers/")).entries[0].lease)
    await store.commit(Transaction(puts={"a": b"2"}))
    entry = await store.get("a")
    assert entry is not None
    assert entry.value == b"2"
    await store.close()
