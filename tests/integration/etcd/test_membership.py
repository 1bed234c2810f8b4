"""Members announce themselves, see each other, and survive the loss of their lease or of etcd."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest
from fakes.etcd import EtcdCluster

from bettong_kit.errors import ConfigError, CoordinationRefusedError, MemberReplacedError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.membership.announcing import Announcement
from bettong_kit.membership.clusters import create_cluster, find_cluster
from bettong_kit.membership.members import Member
from bettong_kit.membership.observing import Members, Observer

CLUSTER = "test"


def member(name: str = "executor-1", **facts: object) -> Member:
    facts = {"role": "executor", "address": "127.0.0.1:1", "version": "0.1.0", "capacity": {"lanes": 2}} | facts
    return Member(name=name, **facts)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(*tasks: Announcement | Observer) -> AsyncIterator[None]:
    """Run their loops inside the block."""
    started = [asyncio.create_task(each.run()) for each in tasks]
    try:
        yield
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def until(observer: Observer, holds: Callable[[Members], bool]) -> Members:
    async with asyncio.timeout(15):
        async for members in observer.snapshots():
            if holds(members):
                return members
    raise AssertionError


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.02)


def names(members: Members) -> list[str]:
    return [f"{each.role}/{each.name}" for each in members.members]


async def test_members_come_change_and_leave(client: EtcdClient) -> None:
    """Others see what a member says about itself, and at once when it leaves."""
    observer = Observer(client, CLUSTER)
    async with running(observer):
        assert names(await until(observer, lambda _: True)) == []
        one, two = Announcement(client, CLUSTER, member()), Announcement(client, CLUSTER, member("a", role="gateway"))
        joined = await one.join()
        await two.join()
        seen = await until(observer, lambda members: len(members.members) == 2)
        assert seen.members == (joined, two.member)
        assert 0 < joined.epoch < two.member.epoch
        await one.change(member(draining=True))
        seen = await until(observer, lambda members: members.members[0].draining)
        assert (seen.members[0].epoch, seen.members[0].started) == (joined.epoch, joined.started)
        await one.leave()
        assert not one.held
        assert names(await until(observer, lambda members: len(members.members) == 1)) == ["gateway/a"]
        await two.leave()


async def test_the_second_of_a_name_is_refused(client: EtcdClient) -> None:
    """As soon as it is clear that the first one lives; the error names it. The same name in another role is another member."""
    first = Announcement(client, CLUSTER, member(address="10.0.0.1:9"))
    await first.join()
    async with running(first):
        with pytest.raises(
            MemberReplacedError, match=r"executor 'executor-1' is in the cluster already, at 10.0.0.1:9"
        ):
            await Announcement(client, CLUSTER, member()).join()
        assert first.held
        await Announcement(client, CLUSTER, member(role="router")).join()


@pytest.mark.slow
async def test_a_member_that_died_is_followed_by_one_of_its_name(client: EtcdClient) -> None:
    """The newcomer waits for the lease of the dead to end, and has a higher epoch."""
    first = Announcement(client, CLUSTER, member(), ttl_s=1)
    second = Announcement(client, CLUSTER, member())
    await first.join()
    joined = await second.join()
    assert joined.epoch > first.member.epoch
    async with asyncio.timeout(10):
        with pytest.raises(MemberReplacedError, match="already"):
            async with running(second):
                await first.run()


async def test_a_lost_lease_is_made_anew(client: EtcdClient) -> None:
    """The others see the member go and come back, with a higher epoch; how long that takes is printed."""
    observer, one = Observer(client, CLUSTER), Announcement(client, CLUSTER, member(), ttl_s=2)
    before = await one.join()
    async with running(observer):
        await until(observer, lambda members: len(members.members) == 1)
        revoked_s = time.monotonic()
        await client.revoke(one._lease)
        await until(observer, lambda members: not members.members)
        gone_s = time.monotonic() - revoked_s
        # Only now: a beat at the moment of the loss would have it back before anybody has looked.
        async with running(one):
            back = await until(observer, lambda members: len(members.members) == 1)
            back_s = time.monotonic() - revoked_s
            sys.stdout.write(f"gone after {gone_s * 1000:.1f} ms, back after {back_s:.2f} s\n")
            assert back.members[0].epoch > before.epoch
            await eventually(lambda: one.joins == 2)


async def test_a_removed_key_is_written_again(client: EtcdClient) -> None:
    """Somebody removed it by hand, while the lease lives; the member comes back under the same lease, with a higher epoch."""
    one = Announcement(client, CLUSTER, member(), ttl_s=3)
    before = await one.join()
    lease = one.lease
    async with running(one):
        await client.delete("/bettong/test/members/executor/executor-1")
        await eventually(lambda: one.joins == 2)
        assert one.lease == lease
        assert one.member.epoch > before.epoch
        entry = await client.get("/bettong/test/members/executor/executor-1")
        assert entry is not None
        assert (entry.lease, entry.created) == (lease, one.member.epoch)
        # Later changes are of what was written last.
        await one.change(member(draining=True))


async def test_a_change_that_had_no_time_is_said_by_the_next_beat(client: EtcdClient) -> None:
    """Such as that it drains, while etcd elects a leader: whoever says it has little time, and the member beats on."""
    observer, one = Observer(client, CLUSTER), Announcement(client, CLUSTER, member(), ttl_s=1)
    await one.join()
    async with one._changing:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await one.change(member(draining=True))
    async with running(observer, one):
        await until(observer, lambda members: bool(members.members) and members.members[0].draining)


async def test_a_member_ends_whose_name_another_one_has(client: EtcdClient) -> None:
    """Its key was removed and a second process was quicker: the first stops, although its lease lives."""
    first, second = Announcement(client, CLUSTER, member(), ttl_s=2), Announcement(client, CLUSTER, member(), ttl_s=2)
    await first.join()
    await client.delete("/bettong/test/members/executor/executor-1")
    await second.join()
    async with running(second), asyncio.timeout(10):
        with pytest.raises(MemberReplacedError, match="already"):
            await first.run()
        assert second.held


async def test_members_stay_while_etcd_is_away(etcd: EtcdCluster, client: EtcdClient) -> None:
    """The last snapshot stays and says since when; afterwards everybody is there, and nothing is said any more."""
    observer, one = Observer(client, CLUSTER), Announcement(client, CLUSTER, member(), ttl_s=1)
    await one.join()
    async with running(observer, one):
        await until(observer, lambda members: len(members.members) == 1)
        etcd.servers[0].kill()
        lost = await until(observer, lambda members: members.lost_since_ms is not None)
        assert names(lost) == ["executor/executor-1"]
        await eventually(lambda: not one.held and one.lost_since_ms is not None)
        etcd.start()
        back = await until(observer, lambda members: members.lost_since_ms is None and bool(members.members))
        assert names(back) == ["executor/executor-1"]
        await eventually(lambda: one.held and one.lost_since_ms is None)


async def test_an_entry_that_cannot_be_read_hides_nobody(client: EtcdClient) -> None:
    """Neither garbage nor a newer format; facts that are not known are ignored."""
    await client.put("/bettong/test/members/executor/garbage", b"\xff")
    await client.put("/bettong/test/members/executor/newer", b'{"format": 2}')
    value = (
        b'{"format": 1, "address": "a:1", "version": "9", "draining": false, "started": "x", "capacity": {}, "mood": 1}'
    )
    await client.put("/bettong/test/members/executor/good", value)
    observer = Observer(client, CLUSTER)
    async with running(observer):
        assert names(await until(observer, lambda _: True)) == ["executor/good"]


async def test_a_cluster_is_made_once_and_never_mistaken(client: EtcdClient) -> None:
    """A name that nobody made is refused with the names that there are, and so is the folder of another cluster."""
    identity = await create_cluster(client, "prod")
    assert await create_cluster(client, "prod") == identity
    assert await find_cluster(client, "prod", expected=identity) == identity
    with pytest.raises(CoordinationRefusedError, match="no cluster 'prdo'; it has: prod"):
        await find_cluster(client, "prdo")
    with pytest.raises(CoordinationRefusedError, match="the data folder belongs to 01234567"):
        await find_cluster(client, "prod", expected="0123456789")


@pytest.mark.parametrize("name", ["", "a/b", "A", "-a", "a" * 64])
def test_a_name_is_one_part_of_a_key(name: str) -> None:
    """Anything else is refused before it reaches etcd."""
    with pytest.raises(ConfigError, match="must have 1 to 63"):
        member(name)


@pytest.mark.slow
async def test_leaving_does_not_wait_for_an_etcd_that_is_away(etcd: EtcdCluster, client: EtcdClient) -> None:
    """A process that ends has no time for it; its lease ends by itself."""
    one = Announcement(client, CLUSTER, member())
    await one.join()
    etcd.servers[0].pause()
    try:
        started_s = time.monotonic()
        await one.leave()
        assert time.monotonic() - started_s < 4
    finally:
        etcd.servers[0].resume()
