"""A gateway of a cluster: what it serves, forwards and says while executors and other gateways come and go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest
from fakes.clock import ManualClock
from fakes.engine import FakeEngine
from fakes.sight import PREFIX, FakeReports, FakeSight

from bettong_catalog.registry import Registry
from bettong_catalog.shared import read_wishes
from bettong_catalog.store import Transaction
from bettong_domain.deployments import Deployment, DeploymentConfig, DeploymentState, ReplicaState
from bettong_domain.hosts import Running
from bettong_domain.models import BatchMode, Framework, Model, ModelConfig, ModelKey, Signature, TensorSpec
from bettong_domain.pipelines import Pipeline, PipelineKey, Step
from bettong_gateway import deployment_app
from bettong_gateway.cluster_reconcile import ClusterReconciler, Myself, Notes
from bettong_gateway.cluster_routes import Routes
from bettong_gateway.deployment_app import DeploymentApp
from bettong_gateway.good_versions import GoodVersions
from bettong_gateway.progress import Progress
from bettong_kit.errors import BettongError
from bettong_serving.forwarding import Forwarding

SPEC = TensorSpec("x", "FP32", (-1, 4))
RUNNING, STARTING, ERROR = DeploymentState.RUNNING, DeploymentState.STARTING, DeploymentState.ERROR


@dataclass
class Gateway:
    """A gateway under test, and the cluster that it sees."""

    sight: FakeSight
    engine: FakeEngine
    registry: Registry
    deployments: DeploymentApp
    progress: Progress
    reports: FakeReports
    reconciler: ClusterReconciler

    async def make(self, name: str, version: int) -> PipelineKey:
        """Make a pipeline version of one model."""
        config = ModelConfig()
        draft = Model(
            key=ModelKey(f"{name}-{version}", 0),
            sha256=f"{version:064}",
            size_bytes=1,
            framework=Framework.ONNX,
            signature=Signature((SPEC,), (SPEC,), BatchMode.ROWS),
            config=config,
            file_name="",
            created_ms=0,
            runtime="",
        )
        model = await self.registry.add_model(draft)
        steps = (Step(model.key, config),)
        pipeline, _ = await self.registry.add_pipeline(Pipeline(PipelineKey(name, 0), steps, model.signature, 0))
        return pipeline.key

    async def wish(self, key: PipelineKey, replicas: int = 1) -> None:
        """Ask for a version without waiting for it."""
        await self.registry.wish(key, DeploymentConfig(replicas=replicas))

    async def until(self, state: DeploymentState, version: int = 0, reason: str = "") -> Deployment:
        """Wait until a deployment of `p` is in a state, serving a version, for a reason."""
        async with asyncio.timeout(5):
            while True:
                changed = self.progress._changed
                found = self.progress.get("p")
                if found and (found.state, found.serving_version) == (state, version) and reason in found.reason:
                    return found
                await changed.wait()

    def peers(self, version: int) -> list[str]:
        """Return whom calls for a version of `p` go to."""
        return [peer.name for peer in self.engine.table.replicas.get(PipelineKey("p", version), ())]


@contextlib.asynccontextmanager
async def gateway(*, through_routers: bool = False) -> AsyncIterator[Gateway]:
    """Run a gateway in a cluster of nobody."""
    sight, engine, clock, progress = FakeSight(), FakeEngine(), ManualClock(), Progress()
    registry = Registry(sight, clock)
    forwarding = Forwarding(engine, prefix=PREFIX, clock=clock, through_routers=through_routers)
    reports = FakeReports()
    notes = Notes(progress, GoodVersions(registry), reports)
    reconciler = ClusterReconciler(
        sight, forwarding, Routes(engine), myself=Myself("g1", PREFIX, through_routers), notes=notes, clock=clock
    )
    deployments = DeploymentApp(registry, reconciler, progress, engine=engine, clock=clock)
    running = asyncio.create_task(reconciler.run())
    try:
        await reconciler.restore()
        yield Gateway(sight, engine, registry, deployments, progress, reports, reconciler)
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_version_serves_when_its_executors_are_ready() -> None:
    """It waits for all that load it, forwards to them, writes that it served, and says so to the others."""
    async with gateway() as g:
        for name in ("e1", "e2"):
            g.sight.join("executor", name)
        key = await g.make("p", 1)
        await g.wish(key, replicas=2)
        waiting = await g.until(STARTING, reason="e1 has not begun to load it; e2 has not begun to load it")
        assert [replica.state.value for replica in waiting.replicas or ()] == ["waiting", "waiting"]
        assert g.engine.unavailable["p"] == waiting.reason
        g.sight.say("executor", "e1", p="1 ready")
        await g.until(STARTING, reason="e2 has not begun")
        g.sight.say("executor", "e2", p="1 ready")
        running = await g.until(RUNNING, version=1)
        assert (running.reason, running.models[0].state) == ("", RUNNING)
        assert g.engine.forwarded["p"].key == key
        assert g.peers(1) == ["executor/e1", "executor/e2"]
        assert g.reports.newest == {key: Running(ReplicaState.READY)}
        await when(lambda: read_wishes(g.sight.desired.entries, PREFIX)[0].last_good_version == 1)
        # The note is newer than what the gateway has looked at, and is no new wish.
        assert (await g.deployments.get("p")).state is RUNNING


async def test_deploying_follows_it_to_the_end() -> None:
    """Callers see the states until it serves; undeploying ends with what was asked."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        key = await g.make("p", 1)

        async def ready_soon() -> None:
            await g.until(STARTING, reason="e1")
            g.sight.say("executor", "e1", p="1 ready")

        helping = asyncio.create_task(ready_soon())
        states = [state async for state in g.deployments.deploy(key, DeploymentConfig())]
        await helping
        assert [state.state for state in states] == [STARTING, RUNNING]
        stopped = await g.deployments.undeploy("p")
        assert stopped.state is DeploymentState.STOPPED
        assert "p" not in g.engine.forwarded
        assert "p" not in g.engine.unavailable


async def test_a_hot_swap_serves_the_old_version_until_the_new_one_is_ready() -> None:
    """There is no moment without a version, and none with a version that nobody runs."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        await g.wish(await g.make("p", 1))
        g.sight.say("executor", "e1", p="1 ready")
        await g.until(RUNNING, version=1)
        await g.wish(await g.make("p", 2))
        await g.until(STARTING, version=1)
        g.sight.say("executor", "e1", p="1 ready, 2 loading")
        await g.until(STARTING, version=1, reason="e1 is loading it")
        g.sight.say("executor", "e1", p="1 leaving, 2 ready")
        await g.until(RUNNING, version=2)
        assert g.peers(1) == g.peers(2) == ["executor/e1"]


async def test_a_version_that_fails_leaves_the_old_one() -> None:
    """The reason of each executor is told; a new wish is not answered with the old failure."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        await g.wish(await g.make("p", 1))
        g.sight.say("executor", "e1", p="1 ready")
        await g.until(RUNNING, version=1)
        second = await g.make("p", 2)
        await g.wish(second)
        g.sight.say("executor", "e1", p="1 ready, 2 failed damaged")
        await g.until(ERROR, version=1, reason="e1: damaged")
        await g.wish(second)
        await g.until(STARTING, version=1, reason="e1 has not begun")


async def test_what_fits_nowhere_is_an_error_until_it_fits() -> None:
    """The sentence says what is short; when there is room, it comes up by itself."""
    async with gateway() as g:
        await g.wish(await g.make("p", 1), replicas=2)
        failed = await g.until(ERROR, reason="asks for 2 replicas; there is no executor")
        assert g.engine.unavailable["p"] == failed.reason
        g.sight.join("executor", "e1")
        g.sight.say("executor", "e1", p="1 ready")
        await g.until(RUNNING, version=1, reason="asks for 2 replicas; 1 executor of 1 has room")


async def test_requests_are_refused_with_the_reason_while_nobody_is_ready() -> None:
    """An executor that dies takes the pipeline with it, unless its link lives; the next one brings it back."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        await g.wish(await g.make("p", 1))
        g.sight.say("executor", "e1", p="1 ready")
        await g.until(RUNNING, version=1)
        g.engine.linked = {"executor/e1"}
        g.sight.join("executor", "e2")
        g.sight.leave("executor", "e1")
        await g.until(RUNNING, version=1, reason="e2 has not begun")
        assert g.peers(1) == ["executor/e1"]
        g.engine.linked = set()
        g.sight.nudge()
        await g.until(STARTING)
        assert g.engine.unavailable["p"] == "e2 has not begun to load it"
        g.sight.say("executor", "e2", p="1 ready")
        await g.until(RUNNING, version=1)
        assert g.peers(1) == ["executor/e2"]


async def test_a_deployment_runs_when_every_gateway_serves_it() -> None:
    """Who deploys at one gateway and asks another is answered; one that joins later changes nothing."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        g.sight.join("gateway", "g2")
        g.sight.say("gateway", "g2", other="1 ready")
        await g.wish(await g.make("p", 1))
        g.sight.say("executor", "e1", p="1 ready")
        await g.until(STARTING, version=1, reason="gateway/g2 does not serve it yet")
        g.sight.say("gateway", "g2", other="1 ready", p="1 ready")
        await g.until(RUNNING, version=1)
        g.sight.join("gateway", "g3")
        g.sight.say("gateway", "g3", other="1 ready")
        stopping = asyncio.create_task(g.deployments.undeploy("p"))
        await when(lambda: "p" not in g.engine.forwarded)
        assert not stopping.done()
        g.sight.say("gateway", "g2", other="1 ready")
        assert (await stopping).state is DeploymentState.STOPPED


async def test_who_was_told_by_another_gateway_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one knows that all have followed; this one hears of that in a moment, and does not wait for it for ever."""
    monkeypatch.setattr(deployment_app, "_SETTLE_S", 5.0)
    async with gateway() as g:
        g.sight.join("executor", "e1")
        g.sight.join("gateway", "g2")
        g.sight.say("gateway", "g2", other="1 ready")
        await g.wish(await g.make("p", 1))
        g.sight.say("executor", "e1", p="1 ready")
        await when(lambda: g.progress.is_held("p"))
        asked = asyncio.create_task(g.deployments.list_deployments())
        g.sight.say("gateway", "g2", other="1 ready", p="1 ready")
        assert [each.state for each in await asked] == [RUNNING]
        await g.registry.change_wish("p", lambda wish: replace(wish, stopped=True))
        await when(lambda: g.progress.is_held("p"))
        asked = asyncio.create_task(g.deployments.list_deployments())
        g.sight.say("gateway", "g2", other="1 ready")
        assert [each.state for each in await asked] == [DeploymentState.STOPPED]
        monkeypatch.setattr(deployment_app, "_SETTLE_S", 0.01)
        await g.wish(PipelineKey("p", 1))
        await when(lambda: g.progress.is_held("p"))
        assert [each.state for each in await g.deployments.list_deployments()] == [STARTING]


async def test_a_gateway_without_a_router_waits_for_the_routers() -> None:
    """A version is served once each router knows where it runs; calls go to routers only."""
    async with gateway(through_routers=True) as g:
        for role, name in (("executor", "e1"), ("router", "r1"), ("router", "r2")):
            g.sight.join(role, name)
            g.sight.say(role, name, other="1 ready")
        await g.wish(await g.make("p", 1))
        g.sight.say("executor", "e1", p="1 ready")
        g.sight.say("router", "r1", p="1 ready")
        await g.until(STARTING, reason="router/r2 does not know it yet")
        g.sight.say("router", "r2", p="1 ready")
        await g.until(RUNNING, version=1)
        assert [peer.name for peer in g.engine.table.routers] == ["router/r1", "router/r2"]
        assert not g.engine.table.replicas


async def test_a_program_that_the_engine_refuses_hurts_no_other() -> None:
    """Its deployment says why, again and again; the others are served."""
    async with gateway() as g:
        g.engine.refuse["p"] = BettongError("its inputs make no sense")
        g.sight.join("executor", "e1")
        g.sight.say("executor", "e1", p="1 ready", q="1 ready")
        await g.wish(await g.make("p", 1))
        await g.wish(await g.make("q", 1))
        await g.until(ERROR, reason="its inputs make no sense")
        await when(lambda: "q" in g.engine.forwarded)
        g.sight.nudge()
        assert (await g.deployments.get("p")).state is ERROR


async def test_garbage_in_etcd_hurts_no_other_pipeline() -> None:
    """Neither a wish nor a pipeline version that cannot be read keeps others from being served."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        g.sight.say("executor", "e1", p="1 ready", q="1 ready")
        key = await g.make("q", 1)
        await g.wish(await g.make("p", 1))
        await g.sight.commit(Transaction(puts={"deployments/r": b"\xff", "pipelines/p/0000000001": b"\xff"}))
        await g.wish(key)
        await when(lambda: "q" in g.engine.forwarded)
        await g.until(ERROR, reason="cannot be read; something else, or a newer version, wrote it")


async def test_deleted_pipelines_are_forgotten() -> None:
    """Nothing is left of a pipeline that is stopped and deleted."""
    async with gateway() as g:
        key = await g.make("p", 1)
        await g.wish(key)
        await g.until(ERROR)
        await g.deployments.undeploy("p")
        await g.registry.delete_pipelines(key)
        await when(lambda: g.progress.get("p") is None)
        assert "p" not in g.engine.unavailable


async def test_a_gateway_starts_although_a_pipeline_is_deleted_meanwhile() -> None:
    """Stopped and deleted in one batch while it is waited for: there is nothing to restore, and the others are waited for."""
    async with gateway() as g:
        g.sight.join("executor", "e1")
        keys = [await g.make(name, 1) for name in ("p", "q")]
        for key in keys:
            await g.wish(key)
        await g.until(STARTING, reason="e1")
        starting = asyncio.create_task(g.reconciler.restore())
        await asyncio.sleep(0)
        await g.registry.change_wish("p", lambda wish: replace(wish, stopped=True))
        await g.registry.delete_pipelines(keys[0])
        await when(lambda: g.progress.get("p") is None)
        assert not starting.done()
        g.sight.say("executor", "e1", q="1 ready")
        async with asyncio.timeout(5):
            await starting


async def test_a_gateway_that_could_not_tell_what_it_serves_is_not_ready() -> None:
    """A change at another gateway waits only for those that have said what they serve: this one would go on with the old version."""
    async with gateway() as g:
        g.reports.may_tell.clear()
        starting = asyncio.create_task(g.reconciler.restore())
        await asyncio.sleep(0)
        assert not starting.done()
        g.reports.may_tell.set()
        await asyncio.wait_for(starting, 5)


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_good_version_is_not_noted_for_another_wish(stopped: bool) -> None:
    """What is written belongs to the wish that it is about: a newer one stays as it is."""
    async with gateway() as g:
        await g.wish(await g.make("p", 1))
        (old,) = await g.registry.wishes()
        await (g.deployments.undeploy("p") if stopped else g.wish(await g.make("p", 2)))
        before = g.sight.desired.revision
        notes = GoodVersions(g.registry)
        running = asyncio.create_task(notes.run())
        notes.note(old)
        await when(lambda: not notes._pending)
        running.cancel()
        await asyncio.wait({running})
        assert g.sight.desired.revision == before


async def when(holds: Callable[[], bool]) -> None:
    """Give other tasks their turns until something holds; everything is in memory here, so that only turns are needed."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - there is no event for it, and no time to wait for
            await asyncio.sleep(0)
