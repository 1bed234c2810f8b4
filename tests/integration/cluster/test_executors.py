"""Executors as processes, in a cluster with a gateway and a real etcd."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cluster_parts import Cluster, around, deployments, sdk, until, uploaded
from fakes.etcd import etcd_cluster
from fakes.processes import ServerProcess, server_process

import bettong
from bettong.v1 import models_pb2
from bettong_catalog.shared import desired_prefix
from bettong_kit.membership.members import Member, from_entry, members_prefix

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

ROW = [{"x": [1.0, 2.0, 3.0, 4.0]}]


@contextlib.asynccontextmanager
async def starting(cluster: Cluster, name: str, folder: Path | None = None) -> AsyncIterator[ServerProcess]:
    """Run an executor process, which may not be ready or refuse to start."""
    settings = cluster.settings(name)
    variables = {"ETCD": settings.etcd, "CLUSTER": settings.cluster, "NAME": name, "BLOBS": settings.blobs}
    environment = {f"BETTONG_{variable}": value for variable, value in variables.items()}
    async with server_process(folder or cluster.folder / name, module="bettong_executor", **environment) as process:
        yield process


@contextlib.asynccontextmanager
async def executors(cluster: Cluster, *names: str) -> AsyncIterator[dict[str, ServerProcess]]:
    """Run executor processes that are ready, and that the gateways see."""
    async with contextlib.AsyncExitStack() as stack:
        processes = {name: await stack.enter_async_context(starting(cluster, name)) for name in names}
        for process in processes.values():
            await process.until("ready")
        await cluster.until_seen(*names)
        yield processes


async def members(cluster: Cluster) -> dict[str, Member]:
    """Return the executors that are announced, by name."""
    found = await cluster.client.list(f"{members_prefix(cluster.name)}executor/")
    return {member.name: member for member in map(from_entry, found.entries)}


async def serve(client: bettong.Client, name: str, *, replicas: int = 1) -> bettong.Pipeline:
    """Upload a model that sums four columns, and deploy it."""
    pipeline = await asyncio.to_thread(uploaded, client, name)
    config = bettong.DeploymentConfigBuilder().replica_count(replicas).build()
    await asyncio.to_thread(pipeline.deploy, config)
    return pipeline


async def only_replica(client: bettong.Client, name: str) -> bettong.Replica:
    """Return the one replica of a deployment, when it is at home."""

    async def is_alone() -> bool:
        return [each.state for each in (await deployments(client))[name].replicas] == ["Ready"]

    await until(is_alone)
    return (await deployments(client))[name].replicas[0]


async def ask(pipeline: bettong.Pipeline) -> float:
    """Run one row."""
    rows: Any = await asyncio.to_thread(pipeline.infer, ROW)
    return float(rows[0]["out.y"][0])


async def test_a_deployment_runs_on_executors(cluster: Cluster) -> None:
    """As many as it asks for; each says that it is ready, and where it is reached."""
    gateway = await cluster.gateway("g1")
    async with executors(cluster, "e1", "e2") as processes, sdk(gateway) as client:
        addresses = {line["data"] for each in processes.values() for line in each.lines if line["event"] == "ready"}
        pipeline = await serve(client, "p", replicas=2)
        assert await ask(pipeline) == 10.0
        found = (await deployments(client))["p"]
        assert [(each.member, each.state) for each in found.replicas] == [("e1", "Ready"), ("e2", "Ready")]
        announced = await members(cluster)
        assert {member.address for member in announced.values()} == addresses
        assert announced["e1"].capacity["lanes"] == 1
        assert announced["e1"].capacity["memory_bytes"] > 0


async def test_a_stopped_executor_leaves_no_gap(cluster: Cluster) -> None:
    """Another one takes over before it goes; it leaves at once and ends with 0."""
    gateway = await cluster.gateway("g1")
    async with executors(cluster, "e1", "e2") as processes, sdk(gateway) as client:
        pipeline = await serve(client, "p")
        replica = await only_replica(client, "p")
        stopped = processes[replica.member].process
        stopped.send_signal(signal.SIGTERM)
        ended, asked = asyncio.create_task(stopped.wait()), 0
        while not ended.done():
            assert await ask(pipeline) == 10.0
            asked += 1
        assert (await ended, replica.member in await members(cluster), asked > 0) == (0, False, True)
        assert await ask(pipeline) == 10.0


async def test_a_killed_executor_is_back_before_its_lease_has_ended(cluster: Cluster) -> None:
    """Its folder proves that the one before is dead; its epoch is higher, and it serves what it did."""
    gateway = await cluster.gateway("g1")
    async with sdk(gateway) as client:
        async with executors(cluster, "e1") as processes:
            pipeline = await serve(client, "p")
            before = (await members(cluster))["e1"]
            (entry,) = (await cluster.client.list(f"{members_prefix(cluster.name)}executor/")).entries
            processes["e1"].process.kill()
            await processes["e1"].process.wait()
        # By itself it does not end any more.
        beating = asyncio.create_task(beat(cluster, entry.lease))
        async with starting(cluster, "e1") as second:
            await second.until("version_ready")
            await beating
            assert (await members(cluster))["e1"].epoch > before.epoch
            assert await ask(pipeline) == 10.0


async def beat(cluster: Cluster, lease: int) -> None:
    """Keep a lease alive until somebody ends it."""
    while await cluster.client.keep_alive(lease) > 0:  # noqa: ASYNC110 - that is what keeps it alive
        await asyncio.sleep(1)


async def test_a_name_that_is_taken_is_refused(cluster: Cluster) -> None:
    """The message has the address of the one that has it, which is not harmed."""
    async with starting(cluster, "e1") as first:
        address = str((await first.until("ready"))["data"])
        async with starting(cluster, "e1", cluster.folder / "another") as second:
            line = await second.until("start_failed")
            assert f"executor 'e1' is in the cluster already, at {address}" in str(line["reason"])
            assert await second.process.wait() == 1
        assert set(await members(cluster)) == {"e1"}


async def test_a_damaged_file_is_told_and_repaired(cluster: Cluster) -> None:
    """The deployment names digest and store; when the file is right again, it is fetched without another word."""
    gateway = await cluster.gateway("g1")
    async with sdk(gateway) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        (stored,) = (path for path in (cluster.folder / "blobs").iterdir() if path.name != "cluster")
        content = stored.read_bytes()
        stored.write_bytes(content[:-1] + b"?")
        async with executors(cluster, "e1"):
            with pytest.raises(bettong.NotReadyError, match=f"e1: the file {stored.name} in file://.* is damaged"):
                await asyncio.to_thread(pipeline.deploy)
            assert not (cluster.folder / "e1/models" / stored.name).exists()
            stored.write_bytes(content)

            async def runs() -> bool:
                return (await deployments(client))["p"].state == "Running"

            await until(runs)
            assert await ask(pipeline) == 10.0


async def test_a_model_that_cannot_be_read_hurts_no_other(cluster: Cluster) -> None:
    """As one that a newer version entered: executors become ready and run the others, and remove no file that it may name."""
    gateway = await cluster.gateway("g1")
    async with sdk(gateway) as client:
        unknown = models_pb2.Model(framework=99)  # type: ignore[arg-type]
        await cluster.client.put(f"{desired_prefix(cluster.name)}models/new/0000000001", unknown.SerializeToString())
        async with starting(cluster, "e1") as process:
            line = await process.until("cache_not_swept")
            assert "models/new/0000000001 cannot be read; something else, or a newer version" in str(line["reason"])
            await process.until("ready")
            await cluster.until_seen("e1")
            assert await ask(await serve(client, "p")) == 10.0


async def test_without_etcd_executors_answer_and_stop(tmp_path: Path) -> None:
    """What is known is gone on with; a stop is bounded, and its exit code is 0."""
    async with etcd_cluster(tmp_path / "etcd") as etcd, around(etcd, tmp_path) as cluster:
        gateway = await cluster.gateway("g1")
        async with executors(cluster, "e1") as processes, sdk(gateway) as client:
            process = processes["e1"]
            pipeline = await serve(client, "p")
            etcd.servers[0].kill()
            assert await ask(pipeline) == 10.0
            await process.until("coordination_lost")
            assert await ask(pipeline) == 10.0
            process.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.process.wait(), 20) == 0
            etcd.start()
