"""Requests through a gateway, with or without a router between, to engines that run a model, while these come and go."""

import asyncio
from pathlib import Path

import httpx
import pytest
from cluster_parts import Cluster, around, deployments, sdk, until, uploaded
from fakes.etcd import etcd_cluster

import bettong
from bettong_domain.pipelines import PipelineKey

P1, P2 = PipelineKey("p", 1), PipelineKey("p", 2)
LEASE_S = 5.0
ROWS = [{"x": [1.0, 2.0, 3.0, 4.0]}]


async def asked(pipeline: bettong.Pipeline) -> float:
    """Ask for one row."""
    reply = await asyncio.to_thread(pipeline.infer, ROWS, timeout=10.0)
    return float(reply[0]["out.y"][0])


@pytest.mark.slow
@pytest.mark.parametrize("router_inside", [True, False])
async def test_requests_are_answered_by_executors(cluster: Cluster, router_inside: bool) -> None:
    """A pipeline is deployed, asked, and stopped; nothing runs in the gateway."""
    gateway = await cluster.gateway("g1", router_inside=router_inside)
    if not router_inside:
        await cluster.router("r1")
    engine = await cluster.engine("e1")
    async with sdk(gateway) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))
        await cluster.run(engine, "e1", P1)
        await deploying
        assert await asked(pipeline) == 10.0
        assert engine.status().answered >= 1
        await asyncio.to_thread(pipeline.undeploy)
        with pytest.raises((bettong.NotFoundError, bettong.NotReadyError)):
            await asyncio.to_thread(pipeline.infer, ROWS, timeout=0.5)


@pytest.mark.slow
async def test_an_executor_that_dies_takes_no_request_with_it(cluster: Cluster) -> None:
    """With another replica ready, every request is answered while one is closed under it."""
    gateway = await cluster.gateway("g1")
    engines = {name: await cluster.engine(name) for name in ("e1", "e2")}
    async with sdk(gateway) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        config = bettong.DeploymentConfigBuilder().replica_count(2).build()
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy, config))
        for name, engine in engines.items():
            await cluster.run(engine, name, P1)
        await deploying
        answers = [await asked(pipeline) for _ in range(20)]
        await engines["e1"].close()
        answers += [await asked(pipeline) for _ in range(20)]
        assert answers == [10.0] * 40
        await cluster.executors["e1"].announcement.leave()

        async def is_alone() -> bool:
            found = (await deployments(client))["p"]
            return "1 executor of 1 has room" in found.reason and found.state == "Running"

        await until(is_alone)
        assert await asked(pipeline) == 10.0


@pytest.mark.slow
async def test_a_hot_swap_loses_nothing(cluster: Cluster) -> None:
    """Requests are answered by the old version or the new one, and by the new one only once it was deployed."""
    gateway = await cluster.gateway("g1", router_inside=False)
    await cluster.router("r1")
    engine = await cluster.engine("e1")
    async with sdk(gateway) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))
        await cluster.run(engine, "e1", P1)
        await deploying
        answers: list[float] = []
        swapped = asyncio.Event()

        async def ask_on() -> None:
            while not swapped.is_set():
                answers.append(await asked(pipeline))

        asking = asyncio.create_task(ask_on())
        second = await asyncio.to_thread(uploaded, client, "p", weight=2.0)
        deploying = asyncio.create_task(asyncio.to_thread(second.deploy))
        await cluster.run(engine, "e1", P2)
        cluster.say("e1", P1, P2)
        await deploying
        after = await asked(pipeline)
        swapped.set()
        await asking
        assert after == 20.0
        assert set(answers) <= {10.0, 20.0}
        assert answers == sorted(answers)


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("router_inside", [True, False])
async def test_requests_are_answered_while_all_leases_end(tmp_path: Path, router_inside: bool) -> None:
    """While etcd is away, all leases end, and it comes back without any member: nothing that serves stops."""
    async with etcd_cluster(tmp_path / "etcd") as etcd, around(etcd, tmp_path) as cluster:
        gateway = await cluster.gateway("g1", router_inside=router_inside)
        if not router_inside:
            await cluster.router("r1")
        engine = await cluster.engine("e1")
        async with sdk(gateway) as client:
            pipeline = await asyncio.to_thread(uploaded, client, "p")
            deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))
            await cluster.run(engine, "e1", P1)
            await deploying
            before = {each.name: each.epoch for each in (await asyncio.to_thread(client.members)).members}
            etcd.servers[0].pause()
            await asyncio.sleep(LEASE_S + 1.0)  # what is waited for is the time that leases have
            assert await asked(pipeline) == 10.0
            etcd.servers[0].resume()

            async def all_are_back() -> bool:
                # Each answer proves that there was no gap at that moment; a refusal would be tried again by the SDK.
                assert await asyncio.to_thread(answer_once, gateway.address) == 10.0
                found = (await asyncio.to_thread(client.members)).members
                now = {each.name: each.epoch for each in found}
                return now.keys() == before.keys() and all(now[name] > before[name] for name in before)

            await until(all_are_back)

            async def runs() -> bool:
                state = (await deployments(client))["p"]
                return (state.state, state.serving_version) == ("Running", 1)

            await until(runs)


def answer_once(address: str) -> float:
    """Ask for one row, once."""
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    reply = httpx.post(f"http://{address}/v2/models/p/infer", json=request, timeout=5.0)
    assert reply.status_code == 200, reply.text
    return float(reply.json()["outputs"][0]["data"][0])
