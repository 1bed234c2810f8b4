"""Real kills and pauses of etcd and of members, under writes and watches: nothing lost, doubled or out of order.

Each run prints its seed, the faults that fired and the operations that were checked; too few of either is a failure.
`BETTONG_SEED` repeats a run, `BETTONG_FAULTS` makes it longer.
"""
# ruff: noqa: T201, S311 - a seed decides what happens, and a run says what it did

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes.etcd import EtcdCluster, emptied_client, etcd_cluster, until_ready

from bettong_catalog.etcd_store import EtcdStore
from bettong_catalog.store import ABSENT, Transaction
from bettong_kit.errors import ConflictError, CoordinationLostError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.mirror import Mirror
from bettong_kit.etcd.watching import watch
from bettong_kit.membership.announcing import Announcement
from bettong_kit.membership.members import Member
from bettong_kit.membership.observing import Observer

ROOT = "/bettong/chaos"
WRITERS = 3
MIN_OPERATIONS = 20


@dataclass
class Run:
    """What a run did."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    written: dict[str, int] = field(default_factory=dict)
    """By counter: how often its increase was acknowledged."""
    unknown: Counter[str] = field(default_factory=Counter)
    """By counter: increases of which nobody said whether they happened."""
    conflicts: int = 0
    watched: list[tuple[int, str, bytes]] = field(default_factory=list)
    stalls_s: list[float] = field(default_factory=list)
    """How long after each fault the next write was acknowledged."""

    def report(self, name: str) -> None:
        operations = sum(self.written.values())
        stalls = " ".join(f"{stall:.2f}" for stall in self.stalls_s)
        print(
            f"{name}: seed {self.seed}, faults {dict(self.faults)}, {operations} writes acknowledged, "
            f"{sum(self.unknown.values())} unknown, {self.conflicts} conflicts, {len(self.watched)} watched; "
            f"s to the next write: {stalls}"
        )
        assert self.faults.total() > 0
        assert operations >= MIN_OPERATIONS


def new_run() -> Run:
    return Run(int(os.environ.get("BETTONG_SEED", random.SystemRandom().randrange(1 << 32))))


async def count_up(store: EtcdStore, key: str, run: Run, stop: asyncio.Event) -> None:
    """Increase one counter, which nobody else writes, until told to stop."""
    run.written[key] = 0
    while not stop.is_set():
        try:
            entry = await store.get(key)
            value = int(entry.value) + 1 if entry else 1
            guards = {key: entry.revision if entry else ABSENT}
            await store.commit(Transaction(guards=guards, puts={key: b"%d" % value}))
            run.written[key] += 1
        except ConflictError:
            run.conflicts += 1
        except CoordinationLostError:
            run.unknown[key] += 1


async def follow(client: EtcdClient, run: Run) -> None:
    """Note every change in the order in which it comes."""
    async with contextlib.aclosing(watch(client.connection, f"{ROOT}/desired/", after=0)) as received:
        async for news in received:
            for change in news.changes:
                run.watched.append((change.entry.revision, change.entry.key, change.entry.value))


async def next_write(run: Run) -> None:
    """Wait until a write is acknowledged and note how long that took."""
    started_s = time.monotonic()
    await writes(run, 1)
    run.stalls_s.append(time.monotonic() - started_s)


async def writes(run: Run, count: int) -> None:
    """Wait for so many more writes."""
    wanted = sum(run.written.values()) + count
    async with asyncio.timeout(60):
        while sum(run.written.values()) < wanted:  # noqa: ASYNC110 - writers tell nobody
            await asyncio.sleep(0.005)


Fault = Callable[[EtcdCluster, random.Random, Run], Awaitable[None]]


async def kill_and_restart(cluster: EtcdCluster, chance: random.Random, run: Run) -> None:
    """Crash a server, of several the one that leads, and start it again a little later."""
    server = cluster.servers[0] if len(cluster.servers) == 1 else await cluster.leader()
    server.kill()
    run.faults["kill -9"] += 1
    if len(cluster.servers) > 1:
        await next_write(run)
    await asyncio.sleep(chance.uniform(0, 0.3))
    cluster.start(server)


async def pause(cluster: EtcdCluster, chance: random.Random, run: Run) -> None:
    """Stop a server for longer than an attempt, without closing its connections."""
    server = cluster.servers[0] if len(cluster.servers) == 1 else await cluster.leader()
    server.pause()
    run.faults["SIGSTOP"] += 1
    if len(cluster.servers) > 1:
        await next_write(run)
    else:
        await asyncio.sleep(chance.uniform(1.5, 2.5))
    server.resume()


@contextlib.asynccontextmanager
async def writing(cluster: EtcdCluster, run: Run) -> AsyncIterator[None]:
    """Write and watch inside the block; afterwards everything must add up."""
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(emptied_client(cluster.settings())) for _ in range(2)]
        mirror = Mirror(clients[1], f"{ROOT}/desired/")
        store = EtcdStore(clients[0], ROOT)
        followers = [asyncio.create_task(follow(clients[1], run)), asyncio.create_task(mirror.run())]
        writers = [asyncio.create_task(count_up(store, f"n{number}", run, stop)) for number in range(WRITERS)]
        await next_write(run)
        run.stalls_s.clear()
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*writers)
        await until_ready(cluster.settings())
        await adds_up(store, run)
        last = max((await clients[0].list(f"{ROOT}/desired/")).entries, key=lambda entry: entry.revision)
        async with asyncio.timeout(15):
            while min(mirror.snapshot.revision, newest(run)) < last.revision:
                assert not any(follower.done() for follower in followers)
                await asyncio.sleep(0.02)
        assert {key.rpartition("/")[2]: entry.value for key, entry in mirror.snapshot.entries.items()} == {
            entry.key: entry.value for entry in await store.list("")
        }
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await store.close()


def newest(run: Run) -> int:
    return run.watched[-1][0] if run.watched else 0


async def adds_up(store: EtcdStore, run: Run) -> None:
    """Each counter has what was acknowledged, and of the unknown at most all."""
    for key, acknowledged in run.written.items():
        entry = await store.get(key)
        value = int(entry.value) if entry else 0
        assert acknowledged <= value <= acknowledged + run.unknown[key], f"seed {run.seed}: {key}"
    # Nobody else writes these counters: a conflict would be our own first attempt.
    assert run.conflicts <= sum(run.unknown.values()), f"seed {run.seed}"


def each_change_came_once(run: Run) -> None:
    """Every value of every counter was seen, in order."""
    revisions = [revision for revision, _, _ in run.watched]
    assert revisions == sorted(set(revisions)), f"seed {run.seed}"
    seen: dict[str, list[int]] = {}
    for _, key, value in run.watched:
        seen.setdefault(key, []).append(int(value))
    for key, values in seen.items():
        assert values == list(range(1, len(values) + 1)), f"seed {run.seed}: {key}"
    assert sum(map(len, seen.values())) >= sum(run.written.values())


async def faults(folder: Path, size: int, kinds: list[Fault], *, count: int) -> Run:
    run = new_run()
    chance = random.Random(run.seed)
    async with etcd_cluster(folder, size) as cluster, writing(cluster, run):
        for _ in range(int(os.environ.get("BETTONG_FAULTS", count))):
            await chance.choice(kinds)(cluster, chance, run)
            await next_write(run)
            await writes(run, MIN_OPERATIONS)
            await until_ready(cluster.settings())
    return run


async def test_a_crash_under_writes_and_watches(tmp_path: Path) -> None:
    """One server, killed and started again: what was acknowledged is there once, and every change was watched once."""
    run = await faults(tmp_path, 1, [kill_and_restart], count=1)
    run.report("one server, fast")
    each_change_came_once(run)


@pytest.mark.slow
async def test_crashes_and_pauses_of_one_server(tmp_path: Path) -> None:
    """The same for many faults of both kinds."""
    run = await faults(tmp_path, 1, [kill_and_restart, pause], count=10)
    run.report("one server")
    each_change_came_once(run)


@pytest.mark.slow
async def test_crashes_and_pauses_of_the_leader_of_three(tmp_path: Path) -> None:
    """Writes go on with the others; nothing is lost, doubled or out of order."""
    run = await faults(tmp_path, 3, [kill_and_restart, pause], count=10)
    run.report("leader of three")
    each_change_came_once(run)


MEMBER = """
import asyncio, sys
from bettong_kit.errors import MemberReplacedError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.settings import EtcdSettings
from bettong_kit.membership.announcing import Announcement
from bettong_kit.membership.members import Member

async def main():
    client = EtcdClient(EtcdSettings((sys.argv[1],)))
    member = Member(role="executor", name="one", address="paused:1", version="1")
    announcement = Announcement(client, "chaos", member, ttl_s=2)
    print("epoch", (await announcement.join()).epoch, flush=True)
    loop = asyncio.create_task(announcement.run())
    while not loop.done():
        print("held", int(announcement.held), flush=True)
        await asyncio.sleep(0.05)
    try:
        await loop
    except MemberReplacedError as error:
        print("replaced", error, flush=True)
    await client.close()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_member_that_was_paused_knows_that_it_was_replaced(shared_etcd: EtcdCluster) -> None:
    """Stopped past its lease and followed by another of its name, it never again says that its lease is held."""
    async with emptied_client(shared_etcd.settings()) as client:
        paused = await asyncio.create_subprocess_exec(
            sys.executable, *("-c", MEMBER, shared_etcd.servers[0].endpoint), stdout=asyncio.subprocess.PIPE
        )
        assert paused.stdout is not None
        try:
            epoch = int((await paused.stdout.readline()).split()[1])
            observer = Observer(client, "chaos")
            watching = asyncio.create_task(observer.run())
            paused.send_signal(signal.SIGSTOP)
            stopped_s = time.monotonic()
            follower = Announcement(client, "chaos", Member(role="executor", name="one", address="b:1", version="1"))
            joined = await follower.join()
            taken_s = time.monotonic() - stopped_s
            alive = asyncio.create_task(follower.run())
            paused.send_signal(signal.SIGCONT)
            lines = (await asyncio.wait_for(paused.stdout.read(), 20)).decode().split("\n")
            for task in (alive, watching):
                task.cancel()
            await asyncio.gather(alive, watching, return_exceptions=True)
        finally:
            if paused.returncode is None:
                paused.kill()
            await paused.wait()
        assert joined.epoch > epoch
        held = [line == "held 1" for line in lines if line.startswith("held")]
        assert [line for line in lines if line.startswith("replaced")], lines[-5:]
        # Held until the pause, and not for a moment after it.
        assert held == sorted(held, reverse=True)
        print(
            f"faults {{'SIGSTOP': 1}}, {len(held)} looks; the name was free {taken_s:.2f} s after the pause, lease 2 s"
        )
        assert len(held) >= MIN_OPERATIONS


@pytest.mark.slow
async def test_members_survive_the_leader(tmp_path: Path) -> None:
    """While leaders of three are killed, nobody loses a lease, and the members that are seen stay those that are there."""
    run = new_run()
    chance = random.Random(run.seed)
    async with etcd_cluster(tmp_path, 3) as cluster, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(emptied_client(cluster.settings())) for _ in range(5)]
        members = [
            Announcement(client, "chaos", Member(role="executor", name=f"e{number}", address="a:1", version="1"))
            for number, client in enumerate(clients)
        ]
        observer = Observer(clients[0], "chaos")
        for member in members:
            await member.join()
        tasks = [asyncio.create_task(observer.run()), *(asyncio.create_task(member.run()) for member in members)]
        seen: list[int] = []
        tasks.append(asyncio.create_task(_sizes(observer, seen)))
        for _ in range(5):
            leader = await cluster.leader()
            leader.kill()
            run.faults["kill -9"] += 1
            started_s = time.monotonic()
            await until_ready(cluster.settings())
            run.stalls_s.append(time.monotonic() - started_s)
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            cluster.start(leader)
            await until_ready(cluster.settings())
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        joins = [member.joins for member in members]
        print(
            f"seed {run.seed}, faults {dict(run.faults)}, joins {joins}, sizes seen {Counter(seen)}, s to a read {run.stalls_s}"
        )
        assert run.faults.total() == 5
        assert joins == [1] * 5
        assert seen[seen.index(5) :] == [5] * len(seen[seen.index(5) :])


async def _sizes(observer: Observer, seen: list[int]) -> None:
    async for members in observer.snapshots():
        seen.append(len(members.members))  # noqa: PERF401 - read while it grows
