"""Desired state of a cluster beside a copy that lags behind it, and while etcd is away."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from fakes.clock import ManualClock
from fakes.engine import FakeEngine
from fakes.sight import PREFIX, FakeSight

from bettong_catalog import followed_store
from bettong_catalog.followed_store import FollowedStore, LastKnown
from bettong_catalog.records import Records
from bettong_catalog.registry import Registry
from bettong_catalog.store import Entry, Transaction
from bettong_domain.deployments import Deployment, DeploymentConfig, DeploymentState
from bettong_domain.models import BatchMode, Framework, Model, ModelConfig, ModelKey, Signature, TensorSpec
from bettong_domain.pipelines import PipelineKey
from bettong_gateway import deployment_app
from bettong_gateway.deployment_app import DeploymentApp
from bettong_gateway.pipeline_app import PipelineApp
from bettong_gateway.progress import Progress
from bettong_kit.errors import BettongError, CoordinationLostError, CoordinationRefusedError, InUseError, NotFoundError
from bettong_kit.etcd.mirror import Snapshot

LOST = CoordinationLostError("etcd did not answer")


class Unreliable(FakeSight):
    """A store that can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self.refusal: BettongError = LOST
        self.stuck = False
        self.asked = 0

    async def get(self, key: str) -> Entry | None:
        await self._ask()
        return await super().get(key)

    async def list(self, prefix: str) -> list[Entry]:
        await self._ask()
        return await super().list(prefix)

    async def commit(self, transaction: Transaction) -> int:
        await self._ask()
        return await super().commit(transaction)

    async def _ask(self) -> None:
        self.asked += 1
        if self.stuck:
            await asyncio.Event().wait()
        if self.lost:
            raise self.refusal


@pytest.fixture
def etcd() -> Unreliable:
    """Return a store that answers."""
    return Unreliable()


@dataclass
class Gateway:
    """What one gateway knows, and what it does."""

    store: FollowedStore
    registry: Registry
    pipelines: PipelineApp
    deployments: DeploymentApp

    @property
    def shown(self) -> Records:
        return self.registry.shown


def gateway(etcd: Unreliable, clock: ManualClock, snapshot: Callable[[], Snapshot]) -> Gateway:
    store = FollowedStore(etcd, snapshot, PREFIX, clock)
    registry = Registry(store, clock, shown=Records(LastKnown(store)))
    reconciler = Watched(registry)
    deployments = DeploymentApp(registry, reconciler, reconciler.progress, engine=FakeEngine(), clock=clock)
    return Gateway(store, registry, PipelineApp(registry, reconciler, clock=clock), deployments)


class Watched:
    """Has every wish come true at once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._tasks: set[asyncio.Task[None]] = set()
        self.progress = Progress()

    def wake(self, pipeline: str) -> None:
        """Report the newest wish."""
        task = asyncio.get_running_loop().create_task(self._report(pipeline))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Do nothing."""

    async def restore(self) -> None:
        """Do nothing."""

    async def _report(self, pipeline: str) -> None:
        wish = await self._registry.wish_for(pipeline)
        if wish is not None:
            state = DeploymentState.STOPPED if wish.stopped else DeploymentState.RUNNING
            self.progress.forget(pipeline)
            self.progress.report(Deployment(wish, state, 0 if wish.stopped else wish.version))


def lagging(etcd: Unreliable, clock: ManualClock) -> Gateway:
    """Return a gateway whose copy stays as it is now, because its watch was just lost."""
    held = replace(
        etcd.desired, lost_since_ms=clock.epoch_ms(), lost_since_s=clock.monotonic_s(), lost_reason="refused"
    )
    return gateway(etcd, clock, lambda: held)


def following(etcd: Unreliable, clock: ManualClock) -> Gateway:
    return gateway(etcd, clock, lambda: etcd.desired)


async def model(registry: Registry) -> Model:
    """Enter the next version of a model."""
    spec = TensorSpec("x", "FP32", (-1,))
    draft = Model(
        key=ModelKey("m", 0),
        sha256="a" * 64,
        size_bytes=1,
        framework=Framework.ONNX,
        signature=Signature((spec,), (spec,), BatchMode.ROWS),
        config=ModelConfig(),
        file_name="",
        created_ms=0,
        runtime="",
    )
    return await registry.add_model(draft)


@pytest.mark.parametrize("same", [True, False], ids=["the same gateway", "another gateway"])
async def test_what_was_acknowledged_is_there_for_the_next_change(
    etcd: Unreliable, monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    """However far the copy is behind, a model that was uploaded can be used, deployed, configured and deleted."""
    monkeypatch.setattr(deployment_app, "_SETTLE_S", 0.01)
    clock = ManualClock()
    first = lagging(etcd, clock)
    second = first if same else lagging(etcd, clock)
    uploaded = await model(first.registry)
    assert (
        await second.registry.configure_model(uploaded.key, ModelConfig(max_batch_rows=7))
    ).config.max_batch_rows == 7
    pipeline = await second.pipelines.create_version("p", [uploaded.key])
    assert pipeline.steps[0].config.max_batch_rows == 7
    states = [each async for each in first.deployments.deploy(pipeline.key, DeploymentConfig())]
    assert [(each.desired.version, each.state) for each in states] == [(1, DeploymentState.RUNNING)]
    assert (await second.deployments.get("p")).desired.version == 1
    with pytest.raises(InUseError, match="is deployed"):
        await second.pipelines.delete(pipeline.key)
    assert (await second.deployments.undeploy("p")).desired.stopped
    assert await first.pipelines.delete(pipeline.key) == [1]
    assert [each.key for each in await second.registry.delete_models(uploaded.key)] == [uploaded.key]
    with pytest.raises(NotFoundError, match="there is no model 'm' version 1"):
        await first.pipelines.create_version("p", [uploaded.key])


async def test_the_newest_is_the_newest_of_all(etcd: Unreliable) -> None:
    """A copy that is behind would take an older one silently, or believe that what was stopped runs."""
    clock = ManualClock()
    second = following(etcd, clock)
    await model(second.registry)
    first = await second.pipelines.create_version("p", [ModelKey("m", 0)])
    assert [each.state async for each in second.deployments.deploy(first.key, DeploymentConfig())]
    behind = lagging(etcd, clock)
    await model(second.registry)
    await second.deployments.undeploy("p")
    pipeline = await behind.pipelines.create_version("p", [ModelKey("m", 0)])
    assert [step.model.version for step in pipeline.steps] == [2]
    await second.pipelines.create_version("p", [ModelKey("m", 1)])
    states = [each async for each in behind.deployments.deploy(PipelineKey("p", 0), DeploymentConfig())]
    assert states[-1].desired.version == 3


async def test_who_looks_is_shown_what_was_last_known(etcd: Unreliable) -> None:
    """Whether etcd's absence is known already or found out by asking; while it answers, it is asked, also when its watch is lost."""
    clock = ManualClock()
    one = following(etcd, clock)
    await model(one.registry)
    behind = lagging(etcd, clock)
    await model(one.registry)
    assert [each.key.version for each in await behind.shown.models("m")] == [1, 2]
    etcd.lost = True
    assert [each.key.version for each in await one.shown.models()] == [1, 2]
    assert [each.key.version for each in await behind.shown.models()] == [1]
    clock.advance(4)
    asked = etcd.asked
    assert (await behind.shown.model(ModelKey("m", 1))).key.version == 1
    assert await behind.shown.wishes() == []
    assert etcd.asked == asked


async def test_nobody_is_told_by_a_copy_that_something_is_not_there(etcd: Unreliable) -> None:
    """It may have come since; whoever names it hears that etcd is away."""
    clock = ManualClock()
    behind = lagging(etcd, clock)
    uploaded = await model(following(etcd, clock).registry)
    etcd.lost = True
    for key in (uploaded.key, ModelKey("m", 0)):
        with pytest.raises(CoordinationLostError, match="etcd did not answer; it was not there before"):
            await behind.shown.model(key)
    clock.advance(4)
    with pytest.raises(CoordinationLostError, match="etcd has not answered for 4 s"):
        await behind.deployments.get("p")
    with pytest.raises(
        CoordinationLostError, match=r"^etcd has not answered for 4 s: refused; it was not there before$"
    ):
        await behind.shown.model(uploaded.key)


async def test_what_a_gateway_has_changed_itself_is_shown(etcd: Unreliable) -> None:
    """Although etcd went away before the copy had it; when the copy has it, the copy is right again."""
    clock = ManualClock()
    known = etcd.desired
    one = gateway(etcd, clock, lambda: known)
    first, second = await model(one.registry), await model(one.registry)
    await one.registry.delete_models(first.key)
    etcd.lost = True
    assert [each.key for each in await one.shown.models()] == [second.key]
    known = etcd.desired
    assert [each.key for each in await one.shown.models()] == [second.key]
    known = replace(known, revision=1, entries={}, restored=1)
    assert await one.shown.models() == []


async def test_a_history_that_went_back_takes_changes_along(etcd: Unreliable) -> None:
    """What was changed since the backup is not shown any more."""
    clock = ManualClock()
    known = etcd.desired
    one = gateway(etcd, clock, lambda: known)
    await model(one.registry)
    known = replace(known, restored=1)
    etcd.lost = True
    assert await one.shown.models() == []


async def test_credentials_that_etcd_refuses_are_like_its_absence(etcd: Unreliable) -> None:
    """For who looks; a change hears what etcd says."""
    clock = ManualClock()
    one = following(etcd, clock)
    await model(one.registry)
    etcd.refusal = CoordinationRefusedError("etcd refuses us: invalid auth token")
    etcd.lost = True
    assert [each.key.version for each in await one.shown.models()] == [1]
    with pytest.raises(CoordinationRefusedError, match="invalid auth token"):
        await model(one.registry)


async def test_who_looks_does_not_wait_for_ever(etcd: Unreliable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck etcd is given as long as an election takes."""
    monkeypatch.setattr(followed_store, "_ELECTION_S", 0.01)
    one = following(etcd, ManualClock())
    await model(one.registry)
    etcd.stuck = True
    assert [each.key.version for each in await one.shown.models()] == [1]
    with pytest.raises(CoordinationLostError, match=r"did not answer within 0\.01 s; it was not there before"):
        await one.shown.model(ModelKey("other", 1))


async def test_changes_wait_for_an_election_and_not_for_ever(etcd: Unreliable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just lost: etcd is asked. Lost for long: refused at once, and nothing can have happened. Stuck: given up."""
    clock = ManualClock()
    change = Transaction(puts={"a": b"x"})
    store = lagging(etcd, clock).store
    clock.advance(2)
    assert await store.commit(change) == 1
    clock.advance(5)
    with pytest.raises(CoordinationLostError, match="has not answered for 7 s, nothing was changed: refused"):
        await store.commit(change)
    assert etcd.asked == 1
    monkeypatch.setattr(followed_store, "_ASKED_S", 0.01)
    etcd.stuck = True
    stuck = following(etcd, clock).store
    with pytest.raises(CoordinationLostError, match="may have happened"):
        await stuck.commit(change)
    with pytest.raises(CoordinationLostError, match=r"did not answer within 0\.01 s$"):
        await stuck.get("a")
    await stuck.close()
