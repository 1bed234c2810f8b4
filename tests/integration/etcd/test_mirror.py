"""A copy of a prefix stays true whatever happens to watches and servers."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable

import pytest
from fakes.etcd import EtcdCluster

from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.mirror import Mirror, Snapshot
from bettong_kit.etcd.pb import rpc_pb2
from bettong_kit.etcd.watching import CompactedError, NewsKind, watch


@contextlib.asynccontextmanager
async def running(mirror: Mirror) -> AsyncIterator[Mirror]:
    """Follow etcd inside the block."""
    task = asyncio.create_task(mirror.run())
    try:
        yield mirror
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(mirror: Mirror, holds: Callable[[Snapshot], bool]) -> Snapshot:
    """Wait for a snapshot."""
    async with asyncio.timeout(15):
        async for snapshot in mirror.snapshots():
            if holds(snapshot):
                return snapshot
    raise AssertionError


def values(snapshot: Snapshot) -> dict[str, bytes]:
    return {key: entry.value for key, entry in snapshot.entries.items()}


async def test_what_is_there_and_what_changes_are_seen(client: EtcdClient) -> None:
    """Keys of the prefix come, change and go; others are not seen."""
    await client.put("p/a", b"1")
    async with running(Mirror(client, "p/")) as mirror:
        assert values(await until(mirror, lambda snapshot: bool(snapshot.entries))) == {"p/a": b"1"}
        await client.put("q", b"")
        await client.put("p/b", b"2")
        await until(mirror, lambda snapshot: len(snapshot.entries) == 2)
        last = await client.delete("p/a")
        assert values(await until(mirror, lambda snapshot: snapshot.revision >= last)) == {"p/b": b"2"}


async def test_a_watch_of_changes_that_are_gone_says_so(client: EtcdClient) -> None:
    """Compacted changes are an error of their own, so that the caller lists."""
    for _ in range(5):
        last = await client.put("p/a", b"")
    await client.connection.endpoint.kv.Compact(rpc_pb2.CompactionRequest(revision=last, physical=True))
    with pytest.raises(CompactedError):
        async for _ in watch(client.connection, "p/", after=1):
            pass


@pytest.mark.slow
async def test_a_watch_goes_on_over_a_crash_where_it_was(etcd: EtcdCluster, client: EtcdClient) -> None:
    """Each change comes once and in order, those that were made while nobody watched as well."""
    first = await client.put("p/a", b"0")
    seen: list[bytes] = []
    kinds: list[NewsKind] = []
    count = 0
    async with asyncio.timeout(20):
        async for news in watch(client.connection, "p/", after=first):
            kinds.append(news.kind)
            seen += [change.entry.value for change in news.changes]
            if news.kind is NewsKind.RESUMED and kinds.count(NewsKind.RESUMED) <= 3:
                etcd.servers[0].kill()
                etcd.start()
                for _ in range(3):
                    count += 1
                    await client.put("p/a", b"%d" % count)
            if len(seen) == 9:
                break
    assert seen == [b"%d" % number for number in range(1, 10)]
    assert kinds.count(NewsKind.LOST) >= 3


@pytest.mark.slow
async def test_the_last_snapshot_stays_while_etcd_is_away(etcd: EtcdCluster, client: EtcdClient) -> None:
    """It says since when, and that is over when etcd is back and everything was listed again."""
    await client.put("p/a", b"1")
    async with running(Mirror(client, "p/")) as mirror:
        await until(mirror, lambda snapshot: bool(snapshot.entries))
        etcd.servers[0].kill()
        lost = await until(mirror, lambda snapshot: snapshot.lost_since_ms is not None)
        assert values(lost) == {"p/a": b"1"}
        assert lost.lost_reason
        lists = mirror.lists
        etcd.start()
        await client.put("p/b", b"2")
        back = await until(mirror, lambda snapshot: len(snapshot.entries) == 2 and snapshot.lost_since_ms is None)
        assert values(back) == {"p/a": b"1", "p/b": b"2"}
        assert mirror.lists > lists


async def test_everything_is_listed_again_now_and_then(client: EtcdClient) -> None:
    """Watches are hints; a list finds what one would have missed."""
    async with running(Mirror(client, "p/", relist_s=0.1)) as mirror:
        for number in range(5):
            await client.put("p/a", b"%d" % number)
            await until(mirror, lambda snapshot, number=number: values(snapshot) == {"p/a": b"%d" % number})  # type: ignore[misc]
            lists = mirror.lists
            async with asyncio.timeout(5):
                while mirror.lists == lists:
                    await client.put("p/a", b"%d" % number)
                    await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_an_older_history_is_noticed_and_told(etcd: EtcdCluster, client: EtcdClient) -> None:
    """After a restore from a backup the copy follows, and counts it; one old answer alone changes nothing."""
    server = etcd.servers[0]
    await client.put("p/a", b"1")
    server.kill()
    backup = server.folder.with_name("backup")
    shutil.copytree(server.folder, backup)
    etcd.start()
    async with running(Mirror(client, "p/")) as mirror:
        for number in range(5):
            await client.put("p/b", b"%d" % number)
        before = await until(mirror, lambda snapshot: len(snapshot.entries) == 2)
        server.kill()
        shutil.rmtree(server.folder)
        shutil.copytree(backup, server.folder)
        etcd.start()
        after = await until(mirror, lambda snapshot: bool(snapshot.restored))
        assert values(after) == {"p/a": b"1"}
        assert after.revision < before.revision
        await client.put("p/c", b"3")
        assert len((await until(mirror, lambda snapshot: len(snapshot.entries) == 2)).entries) == 2
