"""What a member knows of its cluster, and that it goes on when etcd does not let it in any more."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bettong.internal.v1 import cluster_pb2
from bettong_kit.errors import CoordinationRefusedError
from bettong_kit.etcd.client import EtcdClient, KeyValue
from bettong_kit.etcd.settings import EtcdSettings
from bettong_serving import sight as sights
from bettong_serving.sight import ClusterSight


@pytest.fixture
async def sight() -> AsyncIterator[ClusterSight]:
    """Return one whose etcd is nowhere."""
    client = EtcdClient(EtcdSettings(("127.0.0.1:1",)))
    yield ClusterSight(client, "c")
    await client.close()


async def refused() -> None:
    raise CoordinationRefusedError("etcd refuses us: invalid auth token")


async def test_who_was_never_let_in_is_refused(sight: ClusterSight) -> None:
    """A wrong password at the start ends the start."""
    with pytest.raises(CoordinationRefusedError, match="invalid auth token"):
        await sight._keep("desired", refused)


async def test_who_is_not_let_in_any_more_goes_on_asking(sight: ClusterSight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials change while processes run: what serves must not end with that."""
    monkeypatch.setattr(sights, "_REFUSED_S", 0.0)
    sight._listed.add("desired")
    asked = 0
    welcome = asyncio.Event()

    async def refused_twice() -> None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            await refused()
        welcome.set()
        await asyncio.Event().wait()

    following = asyncio.create_task(sight._keep("desired", refused_twice))
    async with asyncio.timeout(5):
        await welcome.wait()
    following.cancel()
    await asyncio.wait({following})
    assert asked == 3


def test_a_report_that_cannot_be_read_is_none() -> None:
    """One broken entry hides nothing but itself."""
    report = cluster_pb2.MemberReport(epoch=1)
    assert sights._read(KeyValue("k", b"\xff", 1, 1)) is None
    assert sights._read(KeyValue("k", report.SerializeToString(), 1, 1)) == report
    assert sights._read(None) is None
