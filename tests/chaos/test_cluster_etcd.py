"""etcd loses its leader, goes away, forgets members, or dies with all of them: what serves goes on, and nothing that was wished is lost.

`BETTONG_CHAOS_S` makes runs longer, and etcd stay away for so long; `BETTONG_SEED` repeats a run.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import contextlib
import datetime as dt
import random
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import onnx_files
import pytest
from clusters import CLUSTER, Role, TestedCluster, cluster
from detector import MODEL, Detector, Right
from fakes.etcd import until_ready
from runs import IS_LONG, LEAST_OPERATIONS, SECONDS, report, seed

import bettong
from bettong.internal.v1 import cluster_pb2
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.watching import NewsKind, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]

PAUSE_S = 0.004
AWAY_S = max(20.0, SECONDS)
ANSWERED_WITHIN_S = 12.0
"""How long a change may take to be refused while etcd is away."""
DEPLOYED_S = 10.0
SEEN_S = 1.0
BACK_S = 5.0
STORM = 60
"""Requests to etcd for each member in the first seconds after it came back: more would be a storm."""
STORM_S = 5.0
FACTORS = {str(version): float(version) for version in range(1, 1_000)}
LONELY = "lonely"
"""A pipeline of one replica."""
STUCK = ("stuck-1", "stuck-2", "stuck-3")
"""Pipelines of one replica that fill an executor each. The youngest is placed last: when its executor is gone, it is nowhere."""
MEMORY_BYTES = 1 << 30
STUCK_MEMORY = "600Mi"


@contextlib.asynccontextmanager
async def loaded(folder: Path, *, etcd_size: int = 3) -> AsyncIterator[tuple[TestedCluster, Detector]]:
    """Run a cluster that serves version 1, and a load on it."""
    async with cluster(folder / "c", etcd_size=etcd_size) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(1), replicas=3)
        detector = Detector(tested.gateways, pause_s=PAUSE_S, right=Right(factors=FACTORS))
        async with detector.running():
            await detector.until_answered(100, within_s=20)
            yield tested, detector
            await detector.until_total(LEAST_OPERATIONS, within_s=60)


@contextlib.asynccontextmanager
async def asking(tested: TestedCluster) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(tested.etcd.settings())
    try:
        yield client
    finally:
        await client.close()


async def swapped(tested: TestedCluster, detector: Detector, version: int) -> float:
    """Deploy the next version and return how long that took; the next answers are of it."""
    began_s = time.monotonic()
    await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(version), replicas=3)
    took_s = time.monotonic() - began_s
    before = detector.findings.versions[str(version)]
    await detector.until_answered(16, within_s=10)
    assert detector.findings.versions[str(version)] > before
    return took_s


def handled(tested: TestedCluster) -> float:
    """Return how many requests the servers of etcd have answered."""
    total = 0.0
    for server in tested.etcd.servers:
        with urllib.request.urlopen(f"http://{server.endpoint}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        total += sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("grpc_server_handled_total{"))
    return total


async def handled_after(tested: TestedCluster, seconds: float) -> float:
    """Return how many requests the servers of etcd have answered by some time from now."""
    await asyncio.sleep(seconds)
    return await asyncio.to_thread(handled, tested)


async def test_a_lost_leader_of_etcd_costs_nothing(tmp_path: Path) -> None:
    """The leader of three is killed and started again: no request fails, and a deployment waits for the election at most."""
    number = seed()
    choose = random.Random(number)
    deployed_s: list[float] = []
    async with loaded(tmp_path) as (tested, detector):
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            await tested.etcd.until_whole()
            leader = await tested.etcd.leader()
            leader.kill()
            deployed_s.append(await swapped(tested, detector, len(deployed_s) + 2))
            await asyncio.sleep(choose.uniform(0.0, 2.0))
            tested.etcd.start(leader)
            await asyncio.sleep(choose.uniform(0.5, 2.0))
    print(f"deployed within {max(deployed_s):.2f} s of the kill of the leader")
    report("etcd's leader killed", number, len(deployed_s), detector.findings)
    assert detector.findings.failed == []
    assert detector.findings.wrong == []
    assert max(deployed_s) < DEPLOYED_S


async def test_all_serve_on_while_etcd_is_away(tmp_path: Path) -> None:
    """No request fails; changes are refused soon and say why; when it is back, all are seen again and a deployment works at once."""
    number = seed()
    async with loaded(tmp_path) as (tested, detector):
        for server in tested.etcd.servers:
            server.kill()
        killed = dt.datetime.now(dt.UTC)
        began_s = time.monotonic()
        refusals: list[tuple[float, Exception]] = []
        while time.monotonic() - began_s < AWAY_S:
            asked_s = time.monotonic()
            with pytest.raises(bettong.NotReadyError, match="etcd") as refused:
                await asyncio.to_thread(tested.upload, f"other-{len(refusals)}", onnx_files.tagged())
            refusals.append((time.monotonic() - asked_s, refused.value))
            # Enough to see what becomes of one that is late, too few to be the load.
            await asyncio.sleep(2)
        found = await asyncio.to_thread(tested.client().members)
        assert found.etcd_lost_since is not None
        since_s = (found.etcd_lost_since - killed).total_seconds()
        assert abs(since_s) < BACK_S
        assert {each.name for each in found.members} == set(tested.members)
        print(f"lost since {since_s:+.1f} s after the kill: {found.etcd_lost_reason}")
        print(f"{len(refusals)} changes refused within {max(each for each, _ in refusals):.2f} s: {refusals[-1][1]}")
        tested.etcd.start()
        back_s = time.monotonic()
        await until_ready(tested.etcd.settings())
        elected_s = time.monotonic() - back_s
        counting = asyncio.create_task(handled_after(tested, STORM_S))
        await tested.until_seen()
        seen_s = time.monotonic() - back_s
        deployed_s = await swapped(tested, detector, 2)
        requests = await counting
    print(
        f"etcd answers {elected_s:.2f} s after its start, all are seen after {seen_s:.2f} s, deployed in {deployed_s:.2f} s"
    )
    print(f"{requests:.0f} requests to etcd in its first {STORM_S:g} s, of {len(tested.members)} members")
    report(f"etcd away for {AWAY_S:g} s", number, 1, detector.findings)
    assert detector.findings.failed == []
    assert detector.findings.wrong == []
    assert max(each for each, _ in refusals) < ANSWERED_WITHIN_S
    assert deployed_s < DEPLOYED_S
    assert requests < STORM * len(tested.members)


async def test_what_was_wished_survives_the_death_of_all(tmp_path: Path) -> None:
    """All members and etcd are killed at once and started in any order: what was deployed is served again by itself."""
    number = seed()
    choose = random.Random(number)
    serving_s: list[float] = []
    async with loaded(tmp_path) as (tested, detector):
        await asyncio.to_thread(tested.deploy, LONELY, onnx_files.tagged(3), replicas=1)
        found = detector.findings
        for version in range(2, 12 if IS_LONG else 4):
            await swapped(tested, detector, version)
            before = await asyncio.to_thread(wished, tested)
            members = list(tested.members.values())
            for server in tested.etcd.servers:
                server.kill()
            await asyncio.gather(*(member.kill() for member in members))
            choose.shuffle(members)
            answered, began_s = found.answered, time.monotonic()
            tested.etcd.start()
            await asyncio.gather(*(tested.restart(member) for member in members))
            await detector.until_answered(1 + answered - found.answered, within_s=20)
            serving_s.append(time.monotonic() - began_s)
            standing = {MODEL: ("Running", version, 3), LONELY: ("Running", 1, 1)}
            await tested.until(lambda standing=standing: stands(tested) == standing, within_s=20)  # type: ignore[misc]
            assert await asyncio.to_thread(wished, tested) == before
            failed = len(found.failed)
            await detector.until_answered(LEAST_OPERATIONS // 2, within_s=60)
            assert len(found.failed) == failed
    print(f"serving again within {max(serving_s):.2f} s")
    report("all killed", number, len(serving_s), found)
    assert found.wrong == []


def stands(tested: TestedCluster) -> dict[str, tuple[str, int | None, int]]:
    """Return how each deployment stands, all as of one moment: its state, the version that serves, its ready replicas of that."""
    return {
        each.pipeline: (
            each.state,
            each.serving_version,
            sum(replica.state == "Ready" and replica.version == each.version for replica in each.replicas),
        )
        for each in tested.client().list_deployments()
    }


def wished(tested: TestedCluster) -> object:
    """Return what was uploaded and deployed."""
    client = tested.client()
    models = [(model.name(), [each.version() for each in model.versions()]) for model in client.list_models()]
    deployments = [(each.pipeline, each.version, each.state) for each in client.list_deployments()]
    assert models
    assert deployments
    return models, deployments


async def forget_key(client: EtcdClient, key: str) -> None:
    await client.delete(key)


async def end_lease(client: EtcdClient, key: str) -> None:
    entry = await client.get(key)
    assert entry is not None
    await client.revoke(entry.lease)


@pytest.mark.parametrize("forget", [forget_key, end_lease], ids=lambda forget: forget.__name__)
async def test_members_that_etcd_forgot_announce_themselves_again(
    tmp_path: Path, forget: Callable[[EtcdClient, str], Awaitable[None]]
) -> None:
    """A key that somebody removed and a lease that ended are made anew soon, and no request fails meanwhile."""
    number = seed()
    choose = random.Random(number)
    back_s: list[float] = []
    async with loaded(tmp_path, etcd_size=1) as (tested, detector), asking(tested) as client:
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            victim = choose.choice(list(tested.members.values()))
            key = f"/bettong/{CLUSTER}/members/{victim.role}/{victim.name}"
            began_s = time.monotonic()
            await forget(client, key)
            async with asyncio.timeout(10):
                while await client.get(key) is None:  # noqa: ASYNC110 - another process writes it
                    await asyncio.sleep(0.02)
            back_s.append(time.monotonic() - began_s)
            await tested.until(lambda: tested.sees_all(tested.of_role("gateway")[0]), within_s=SEEN_S)
            await asyncio.sleep(choose.uniform(0.0, 0.5))
    print(f"announced again within {max(back_s):.2f} s")
    report(forget.__name__, number, len(back_s), detector.findings)
    assert detector.findings.failed == []
    assert detector.findings.wrong == []
    assert max(back_s) < BACK_S


async def test_every_router_sees_soon_that_a_member_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the end of a lease until each router says that it cannot pass on any more what ran there: at most 1 s."""
    monkeypatch.setenv("BETTONG_MEMORY_BYTES", str(MEMORY_BYTES))
    number = seed()
    choose = random.Random(number)
    seen_s: list[float] = []
    async with loaded(tmp_path, etcd_size=1) as (tested, detector), asking(tested) as client:
        config = bettong.DeploymentConfigBuilder().replica_count(1).memory(STUCK_MEMORY).build()
        # Which executor has the youngest depends on its name.
        names = choose.sample(STUCK, len(STUCK))
        stuck = names[-1]
        for name in names:
            pipeline = await asyncio.to_thread(tested.upload, name, onnx_files.tagged(3))
            await asyncio.to_thread(pipeline.deploy, deployment_config=config)
        homes = await asyncio.to_thread(ready_at, tested)
        assert sorted(homes[name] for name in STUCK) == sorted([one.name] for one in tested.of_role("executor"))
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            await tested.until(lambda: ready_at(tested) == homes, within_s=20)
            victim = tested.members[homes[stuck][0]]
            revision = (await client.list(f"/bettong/{CLUSTER}/")).revision
            routers = {one.name for one in tested.of_role("router")}
            gone = asyncio.create_task(until_gone(client, revision, victim, stuck, routers))
            await victim.kill()
            seen_s += await gone
            assert not (await asyncio.to_thread(ready_at, tested))[stuck]
            await tested.restart(victim)
    print(f"seen by routers after {', '.join(f'{each:.3f}' for each in seen_s)} s")
    report("gone for routers", number, len(seen_s), detector.findings)
    assert detector.findings.failed == []
    assert detector.findings.wrong == []
    assert max(seen_s) <= SEEN_S


def ready_at(tested: TestedCluster) -> dict[str, list[str]]:
    """Return the executors on which each pipeline is ready, all as of one moment: while one moves, it is ready on two."""
    return {
        each.pipeline: sorted(replica.member for replica in each.replicas if replica.state == "Ready")
        for each in tested.client().list_deployments()
    }


async def until_gone(client: EtcdClient, revision: int, victim: Role, pipeline: str, routers: set[str]) -> list[float]:
    """Return how long after the key of a member was gone each router reported anew without *pipeline*, which ran there."""
    root = f"/bettong/{CLUSTER}/"
    gone_s = 0.0
    seen_s: dict[str, float] = {}
    async with asyncio.timeout(20), contextlib.aclosing(watch(client.connection, root, after=revision)) as received:
        async for news in received:
            assert news.kind is not NewsKind.LOST
            for change in news.changes:
                key = change.entry.key.removeprefix(root)
                if change.deleted and key == f"members/{victim.role}/{victim.name}":
                    gone_s = time.monotonic()
                elif gone_s and not change.deleted and key.startswith("running/router/"):
                    said = cluster_pb2.MemberReport.FromString(change.entry.value)
                    if all(program.pipeline != pipeline for program in said.programs):
                        seen_s.setdefault(key.rpartition("/")[2], time.monotonic() - gone_s)
            if seen_s.keys() == routers:
                return list(seen_s.values())
    raise EOFError("the watch ended")
