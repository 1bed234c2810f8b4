"""Gateways and routers of one cluster in this process, over a real etcd; executors only say that they run things."""

import asyncio
from pathlib import Path

import pytest
from cluster_parts import Cluster, around, deployments, sdk, until, uploaded
from fakes.etcd import etcd_cluster, until_ready

import bettong
from bettong_domain.pipelines import PipelineKey
from bettong_gateway import cluster as gateways
from bettong_gateway.config import GatewayConfig
from bettong_kit.errors import CoordinationRefusedError, MemberReplacedError


async def test_two_gateways_are_one_control_plane(cluster: Cluster) -> None:
    """What is uploaded and deployed at one is there at the other; both say what is ready where."""
    await cluster.executor("e1")
    first, second = await cluster.gateway("g1"), await cluster.gateway("g2")
    async with sdk(first) as one, sdk(second) as two:
        pipeline = await asyncio.to_thread(uploaded, one, "p")
        assert [model.name() for model in await asyncio.to_thread(two.list_models)] == ["p"]
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))

        async def is_starting() -> bool:
            found = (await deployments(two)).get("p")
            return found is not None and [each.state for each in found.replicas] == ["Waiting"]

        await until(is_starting)
        cluster.say("e1", PipelineKey("p", 1))
        await deploying
        for client in (one, two):
            found = (await deployments(client))["p"]
            assert (found.state, found.serving_version, found.reason) == ("Running", 1, "")
            assert [(each.member, each.version, each.state) for each in found.replicas] == [("e1", 1, "Ready")]
        await asyncio.to_thread((await asyncio.to_thread(two.get_pipeline, "p")).undeploy)
        assert (await deployments(one))["p"].state == "Stopped"


@pytest.mark.slow
async def test_members_are_listed_with_how_they_do(cluster: Cluster) -> None:
    """Roles, addresses and what each runs, from any gateway; who leaves is not listed any more."""
    first, second = await cluster.gateway("g1"), await cluster.gateway("g2")
    router = await cluster.router("r1")
    await cluster.executor("e1")
    cluster.say("e1", PipelineKey("p", 1), PipelineKey("q", 1))
    async with sdk(first) as client:

        async def listed(*names: str) -> bool:
            found = await asyncio.to_thread(client.members)
            return [f"{each.role}/{each.name}" for each in found.members] == list(names)

        await until(lambda: listed("executor/e1", "gateway/g1", "gateway/g2", "router/r1"))

        async def reported() -> bool:
            return (await asyncio.to_thread(client.members)).members[0].ready == 2

        await until(reported)
        found = await asyncio.to_thread(client.members)
        by_name = {each.name: each for each in found.members}
        assert (found.cluster, found.etcd_lost_since) == (cluster.name, None)
        assert by_name["g2"].address == second.address
        assert by_name["g2"].control_address
        assert by_name["g1"].epoch < by_name["g2"].epoch
        await router.end()
        await second.end()
        await until(lambda: listed("executor/e1", "gateway/g1"))


@pytest.mark.slow
async def test_a_deployment_that_fits_nowhere_says_what_is_short(cluster: Cluster) -> None:
    """The error names what was asked for and what there is; room that comes later is taken without another word."""
    gateway = await cluster.gateway("g1")
    async with sdk(gateway) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        config = bettong.DeploymentConfigBuilder().replica_count(2).cpus(2).build()
        with pytest.raises(bettong.NotReadyError, match="asks for 2 replicas of 2 CPUs; there is no executor"):
            await asyncio.to_thread(pipeline.deploy, config)
        with pytest.raises(bettong.NotReadyError, match="there is no executor"):
            await asyncio.to_thread(pipeline.infer, [{"x": [1.0] * 4}], timeout=0.5)
        await cluster.executor("e1")
        cluster.say("e1", PipelineKey("p", 1))

        async def runs() -> bool:
            return (await deployments(client))["p"].state == "Running"

        await until(runs)
        assert (await deployments(client))["p"].reason == "asks for 2 replicas of 2 CPUs; 1 executor of 1 has room"


@pytest.mark.slow
async def test_a_gateway_without_a_router_waits_for_routers_that_know(cluster: Cluster) -> None:
    """What no router can pass on is not served; a router says by itself what it can."""
    await cluster.executor("e1")
    gateway = await cluster.gateway("g1", router_inside=False)
    router = await cluster.router("r1")
    async with sdk(gateway) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))
        cluster.say("e1", PipelineKey("p", 1))
        await deploying
        found = await asyncio.to_thread(client.members)
        assert [(each.name, each.ready) for each in found.members if each.role == "router"] == [("r1", 1)]
    await router.end()


@pytest.mark.slow
async def test_names_and_clusters_are_not_mistaken(cluster: Cluster) -> None:
    """A second member of a name, an unknown cluster and another cluster's data folder are refused with what to do."""
    await cluster.gateway("g1")
    with pytest.raises(MemberReplacedError, match="is in the cluster already"):
        await cluster._started(
            lambda stop, ready: gateways.serve(
                GatewayConfig(data=cluster.folder / "other", data_port=0, lanes=1), cluster.settings("g1"), stop, ready
            )
        )
    (cluster.folder / "g9").mkdir()
    (cluster.folder / "g9/cluster").write_text("0123456789abcdef")
    with pytest.raises(CoordinationRefusedError, match="the data folder belongs to 01234567"):
        await cluster.gateway("g9")
    right, cluster.name = cluster.name, "typo"
    with pytest.raises(CoordinationRefusedError, match=f"etcd has no cluster 'typo'; it has: {right}"):
        await cluster.gateway("g2")


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_without_etcd_everything_goes_on_and_changes_wait(tmp_path: Path) -> None:
    """What is known can be read, with since when it is old; a change says that etcd is away; later all is as before."""
    async with etcd_cluster(tmp_path / "etcd") as etcd, around(etcd, tmp_path) as cluster:
        await cluster.executor("e1")
        gateway = await cluster.gateway("g1")
        async with sdk(gateway) as client:
            pipeline = await asyncio.to_thread(uploaded, client, "p")
            cluster.say("e1", PipelineKey("p", 1))
            await asyncio.to_thread(pipeline.deploy)

            async def is_lost() -> bool:
                return (await asyncio.to_thread(client.members)).etcd_lost_since is not None

            etcd.servers[0].kill()
            await until(is_lost)
            found = (await deployments(client))["p"]
            assert (found.state, found.serving_version) == ("Running", 1)
            assert [model.name() for model in await asyncio.to_thread(client.list_models)] == ["p"]
            assert len((await asyncio.to_thread(client.members)).members) == 2
            with pytest.raises(bettong.BettongError, match="etcd"):
                await asyncio.to_thread(uploaded, client, "q")
            etcd.start()
            await until_ready(etcd.settings())

            async def is_back() -> bool:
                return not await is_lost() and (await deployments(client))["p"].state == "Running"

            await until(is_back)
            cluster.say("e1", PipelineKey("p", 1), PipelineKey("q", 1))
            await asyncio.to_thread((await asyncio.to_thread(uploaded, client, "q")).deploy)
