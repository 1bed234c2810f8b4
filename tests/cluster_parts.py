"""Gateways and routers in this process, over a real etcd; executors only say that they run things, or run them in earnest."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fakes.etcd import EtcdCluster, emptied_client
from fakes.models import linear_model

import bettong
from bettong_catalog.programs import compile_stored
from bettong_catalog.records import Records
from bettong_catalog.shared import SnapshotReader, desired_prefix
from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Running
from bettong_domain.models import batch_mode_of
from bettong_domain.pipelines import PipelineKey
from bettong_gateway import cluster as gateways
from bettong_gateway.config import GatewayConfig
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.membership.clusters import create_cluster
from bettong_kit.membership.members import Member
from bettong_kit.membership.settings import ClusterSettings
from bettong_router import serve as routers
from bettong_router.config import RouterConfig
from bettong_serving.config import ServingConfig
from bettong_serving.engine import Engine
from bettong_serving.member import Membership, announced
from bettong_serving.ports import Links, Place

TIMEOUT_S = 20.0
READY = Running(ReplicaState.READY)


@dataclass
class Started:
    """A gateway or router that serves."""

    address: str
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        """Stop it as SIGTERM does."""
        self.stop.set()
        await self.task


@dataclass
class Cluster:
    """An etcd, and what a test starts around it."""

    etcd: EtcdCluster
    client: EtcdClient
    folder: Path
    name: str
    stack: contextlib.AsyncExitStack
    executors: dict[str, Membership] = field(default_factory=dict)
    gateways: list[Started] = field(default_factory=list)

    def settings(self, name: str) -> ClusterSettings:
        """Return who a member is."""
        endpoints = ",".join(server.endpoint for server in self.etcd.servers)
        return ClusterSettings(etcd=endpoints, cluster=self.name, name=name, blobs=f"file://{self.folder}/blobs")

    async def gateway(self, name: str, *, router_inside: bool = True) -> Started:
        """Start a gateway."""
        config = GatewayConfig(
            data=self.folder / name, data_port=0, lanes=1, drain_timeout_s=5, router_inside=router_inside
        )
        started = await self._started(lambda stop, ready: gateways.serve(config, self.settings(name), stop, ready))
        self.gateways.append(started)
        return started

    async def router(self, name: str) -> Started:
        """Start a router."""
        config = RouterConfig(data=self.folder / name, data_port=0, lanes=1, drain_timeout_s=5)
        return await self._started(lambda stop, ready: routers.serve(config, self.settings(name), stop, ready))

    async def engine(self, name: str) -> Engine:
        """Start and announce an executor that runs what it is told."""
        engine = Engine(
            ServingConfig(data_port=0, lanes=1),
            links=Links.EXECUTOR,
            place=Place(self.name, "executor", name),
        )
        self.stack.push_async_callback(engine.close)
        engine.bind()
        engine.set_ready(ready=True)
        await self.executor(name, engine.status().data_address)
        return engine

    async def run(self, engine: Engine, name: str, key: PipelineKey) -> None:
        """Have an executor run a version, and say so."""
        prefix = desired_prefix(self.name)
        sight = self.executors[name].sight

        async def is_known() -> bool:
            return f"{prefix}pipelines/{key.name}/{key.version:010}" in sight.desired.entries

        await until(is_known)
        program = await compile_stored(Records(SnapshotReader(sight.desired, prefix)), key)
        for step in program.steps:
            path = self.folder / "blobs" / step.model.sha256
            mode = batch_mode_of(step.model.signature, step.model.config)
            await engine.load_model(step.model_id, path, step.model.framework, mode)
        await engine.host(serve=[program])
        self.say(name, key)

    async def executor(self, name: str, address: str = "127.0.0.1:1") -> None:
        """Announce an executor, and have the gateways see it."""
        member = Member("executor", name, address, "1", {"lanes": 2})
        membership = await self.stack.enter_async_context(announced(self.client, self.name, member))
        for coroutine in membership.tasks():
            task = asyncio.create_task(coroutine)
            self.stack.push_async_callback(_cancelled, task)
        self.executors[name] = membership
        await self.until_seen(name)

    async def until_seen(self, *names: str) -> None:
        """Wait until all gateways see these members: for what is deployed before they do, an executor is not there."""
        for gateway in self.gateways:
            if not gateway.task.done():
                await _until_seen(gateway, set(names))

    def say(self, name: str, *keys: PipelineKey) -> None:
        """Have an executor say that it runs these."""
        revision = self.executors[name].sight.desired.revision
        self.executors[name].reporter.publish(revision, dict.fromkeys(keys, READY))

    async def _started(self, serve: Callable[[asyncio.Event, Callable[[object], None]], Awaitable[None]]) -> Started:
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(serve(stop, ready.set_result))
        self.stack.push_async_callback(_ended, stop, task)
        await asyncio.wait({task, ready}, timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        return Started(ready.result().data, stop, task)


async def _until_seen(gateway: Started, names: set[str]) -> None:
    async with sdk(gateway) as client:

        async def are_seen() -> bool:
            return names <= {each.name for each in (await asyncio.to_thread(client.members)).members}

        await until(are_seen)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _ended(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    stop.set()
    await asyncio.wait({task}, timeout=TIMEOUT_S)


@contextlib.asynccontextmanager
async def around(etcd: EtcdCluster, folder: Path) -> AsyncIterator[Cluster]:
    """Make a cluster of nobody; what a test starts is ended, the last first."""
    async with emptied_client(etcd.settings()) as client, contextlib.AsyncExitStack() as stack:
        name = f"c-{uuid.uuid4().hex[:8]}"
        await create_cluster(client, name)
        yield Cluster(etcd, client, folder, name, stack)


@contextlib.asynccontextmanager
async def sdk(gateway: Started) -> AsyncIterator[bettong.Client]:
    """Connect as a user does; calls block, so that they go to threads."""
    client = await asyncio.to_thread(bettong.Client, f"http://{gateway.address}", 15.0)
    try:
        yield client
    finally:
        await asyncio.to_thread(client.close)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until something holds."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await holds():  # noqa: ASYNC110 - what is asked is in another process, or might be
            await asyncio.sleep(0.02)


def uploaded(client: bettong.Client, name: str, *, weight: float = 1.0) -> bettong.Pipeline:
    """Upload a model that sums four columns, each times a weight, and make it a pipeline."""
    model = client.upload_model(name, linear_model(4, weight=weight))
    return client.build_pipeline(name).add_model_step(model)


async def deployments(client: bettong.Client) -> dict[str, bettong.Deployment]:
    found = await asyncio.to_thread(client.list_deployments)
    return {each.pipeline: each for each in found}
