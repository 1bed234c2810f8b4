"""An executor: what it brings up, keeps, says and lets go while the cluster around it changes."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.clock import ManualClock
from fakes.engine import FakeEngine
from fakes.models import linear_model
from fakes.sight import PREFIX, FakeReports, FakeSight

from bettong_catalog.blob_store import LocalBlobStore, OnProgress
from bettong_catalog.blobs import Blobs
from bettong_catalog.programs import compile_stored
from bettong_catalog.registry import Registry
from bettong_domain.deployments import DeploymentConfig, Desired
from bettong_domain.models import BatchMode, Framework, Model, ModelConfig, ModelKey, Signature, TensorSpec
from bettong_domain.pipelines import Pipeline, PipelineKey, Step
from bettong_executor.app import ExecutorApp
from bettong_executor.assigned import Assigner
from bettong_executor.bringing_up import BringUp
from bettong_executor.hosting import KEEP_S, LEAVE_S, Hosting
from bettong_executor.quarantine import Quarantine
from bettong_kit.errors import BettongError, InvalidArgumentError, UnavailableError
from bettong_serving.loaded_models import LoadedModels

INPUT, OUTPUT = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("y", "FP32", (-1, 1))


class SlowFiles(LocalBlobStore):
    """Files of a folder, which come when a test lets them."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(blobs)
        self.may_fetch = asyncio.Event()
        self.may_fetch.set()
        self.fetching = 0

    async def fetch(self, sha256: str, on_progress: OnProgress | None = None) -> Path:
        """Wait until it may."""
        self.fetching += 1
        try:
            if on_progress is not None and not self.may_fetch.is_set():
                on_progress(1 << 20, 5 << 20)
            await self.may_fetch.wait()
        finally:
            self.fetching -= 1
        return await super().fetch(sha256)


class SlowEngine(FakeEngine):
    """Loads end when a test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.loading = self.most_loading = 0

    async def load_model(
        self, model_id: str, path: Path, framework: Framework, mode: BatchMode | None, *, checked: bool = False
    ) -> Signature:
        """Wait until it may."""
        self.loading += 1
        self.most_loading = max(self.most_loading, self.loading)
        try:
            await self.may_load.wait()
            return await super().load_model(model_id, path, framework, mode, checked=checked)
        finally:
            self.loading -= 1


class Executor:
    """The executor `me` under test, and the cluster that it sees."""

    def __init__(self, folder: Path) -> None:
        self.sight, self.engine, self.reports, self.clock = FakeSight(), SlowEngine(), FakeReports(), ManualClock()
        self.registry = Registry(self.sight, self.clock)
        self.folder = folder / "models"
        self.files = SlowFiles(Blobs(self.folder, max_bytes=1 << 20))
        self.sweeps = 0
        hosting = Hosting(
            BringUp(
                self.engine,
                LoadedModels(self.engine, self.files),
                lambda key: compile_stored(self.registry, key),
                Quarantine(folder, self.clock),
            ),
            clock=self.clock,
            parallelism=2,
            on_change=self.sight.nudge,
            chance=random.Random(1),  # noqa: S311 - a test's
        )
        self.pause_s = hosting.pause_s
        self.app = ExecutorApp(
            self.sight, hosting, self.reports, assigner=Assigner("me", PREFIX), sweep=self._sweep, clock=self.clock
        )

    async def deploy(self, name: str, *, weight: float = 1.0, replicas: int = 1) -> PipelineKey:
        """Store a model, make it the next version of a pipeline, and ask for it."""
        content = linear_model(4, weight=weight)
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / sha256).write_bytes(content)
        signature, config = Signature((INPUT,), (OUTPUT,), BatchMode.ROWS), ModelConfig()
        draft = Model(ModelKey(name, 0), sha256, len(content), Framework.ONNX, signature, config, "", 0, "")
        model = await self.registry.add_model(draft)
        pipeline = Pipeline(PipelineKey(name, 0), (Step(model.key, config),), signature, 0)
        key = (await self.registry.add_pipeline(pipeline))[0].key
        await self.registry.wish(key, DeploymentConfig(replicas=replicas))
        return key

    def says(self) -> dict[str, str]:
        """Return what was said last, such as {"p 1": "ready"}."""
        return {
            f"{key.name} {key.version}": f"{how.state.value} {how.reason}".strip()
            for key, how in self.reports.newest.items()
        }

    async def until_it_says(self, **expected: str) -> None:
        """Wait until it says of each pipeline's versions what is expected, such as p="1 ready, 2 loading"."""
        wanted = {
            f"{name} {version}": how
            for name, text in expected.items()
            for version, how in (part.split(" ", 1) for part in text.split(", "))
        }
        async with asyncio.timeout(5):
            while self.says() != wanted:  # noqa: ASYNC110 - only turns are needed
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let everything happen that can happen by itself."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def after(self, seconds: float) -> None:
        """Let time pass after everything that is due, and be looked at."""
        await self.settle()
        self.clock.advance(seconds)
        self.sight.nudge()
        await self.settle()

    async def _sweep(self) -> None:
        self.sweeps += 1


@contextlib.asynccontextmanager
async def executing(folder: Path) -> AsyncIterator[Executor]:
    """Run the executor alone in its cluster."""
    executor = Executor(folder)
    executor.sight.join("executor", "me")
    running = asyncio.create_task(executor.app.run())
    try:
        await executor.app.ready()
        yield executor
        if running.done():
            running.result()
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[Executor]:
    """Run the executor alone in its cluster."""
    async with executing(tmp_path) as started:
        yield started


async def test_what_is_assigned_is_brought_up(executor: Executor) -> None:
    """It is said to be loading, then ready, for the revision that asked for it; the engine answers for it."""
    assert executor.says() == {}
    executor.files.may_fetch.clear()
    key = await executor.deploy("p")
    await executor.until_it_says(p="1 loading fetching p version 1: 1 of 5 MiB")
    assert executor.engine.hosted == {}
    executor.files.may_fetch.set()
    await executor.until_it_says(p="1 ready")
    assert set(executor.engine.hosted) == {key}
    assert executor.reports.revision == executor.sight.desired.revision


async def test_what_others_shall_run_is_left_to_them(executor: Executor) -> None:
    """Of eight pipelines with one replica, two executors have each its part."""
    executor.sight.join("executor", "other")
    for number in range(8):
        await executor.deploy(f"p{number}")
    await executor.settle()
    async with asyncio.timeout(5):
        while not executor.says() or set(executor.says().values()) != {"ready"}:
            await executor.settle()
    assert 0 < len(executor.engine.hosted) < 8


async def test_both_versions_run_during_a_swap(executor: Executor) -> None:
    """The last good one goes when a gateway has noted that the new one serves, some seconds later, and says so before."""
    first = await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    await executor.registry.change_wish("p", _served(1))
    second = await executor.deploy("p", weight=2.0)
    await executor.until_it_says(p="1 ready, 2 ready")
    await executor.registry.change_wish("p", _served(2))
    await executor.after(KEEP_S - 0.1)
    assert executor.says() == {"p 1": "ready", "p 2": "ready"}
    await executor.after(0.1)
    assert executor.says() == {"p 1": "leaving", "p 2": "ready"}
    assert set(executor.engine.hosted) == {first, second}
    assert executor.pause_s() == pytest.approx(LEAVE_S)
    await executor.after(LEAVE_S)
    await executor.until_it_says(p="2 ready")
    assert (set(executor.engine.hosted), len(executor.engine.loaded)) == ({second}, 1)
    assert executor.sweeps > 1


def _served(version: int) -> Callable[[Desired], Desired]:
    return lambda wish: replace(wish, last_good_version=version)


async def test_what_is_undeployed_goes(executor: Executor) -> None:
    """Memory is given back."""
    await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    await executor.registry.change_wish("p", lambda wish: replace(wish, stopped=True))
    await executor.after(KEEP_S)
    await executor.until_it_says(p="1 leaving")
    await executor.after(LEAVE_S)
    await executor.until_it_says()
    assert (executor.engine.hosted, executor.engine.loaded) == ({}, {})


async def _moved(executor: Executor) -> str:
    """Deploy a pipeline, then have an executor join that shall run it instead; return its name."""
    key = await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    assigner = Assigner("me", PREFIX)
    for number in range(100):
        name = f"e{number}"
        executor.sight.join("executor", name)
        assigned = assigner.assign(executor.sight.desired, executor.sight.members.members)
        if "me" not in assigned.executors[key]:
            return name
        executor.sight.leave("executor", name)
    raise AssertionError("no executor is preferred")


async def test_a_moved_pipeline_is_kept_until_the_other_has_it(executor: Executor) -> None:
    """Nobody is without an answer, however long the other one takes."""
    other = await _moved(executor)
    await executor.after(100)
    assert executor.says() == {"p 1": "ready"}
    executor.sight.say("executor", other, p="1 loading")
    await executor.after(100)
    assert executor.says() == {"p 1": "ready"}
    executor.sight.say("executor", other, p="1 ready")
    await executor.after(0)
    await executor.after(KEEP_S)
    assert executor.says() == {"p 1": "leaving"}
    await executor.after(LEAVE_S)
    await executor.until_it_says()


async def test_a_pipeline_that_comes_back_stays(executor: Executor) -> None:
    """Whoever was to go answers on when the other one is gone before."""
    other = await _moved(executor)
    executor.sight.say("executor", other, p="1 ready")
    await executor.after(0)
    await executor.after(KEEP_S)
    assert executor.says() == {"p 1": "leaving"}
    executor.sight.leave("executor", other)
    await executor.until_it_says(p="1 ready")
    await executor.after(100)
    assert len(executor.engine.hosted) == 1


async def test_a_load_that_is_not_wanted_any_more_is_given_up(executor: Executor) -> None:
    """Nothing is left of it, and it can be begun again."""
    executor.files.may_fetch.clear()
    await executor.deploy("p")
    await executor.settle()
    assert executor.files.fetching == 1
    await executor.registry.change_wish("p", lambda wish: replace(wish, stopped=True))
    await executor.until_it_says()
    await executor.settle()
    assert (executor.files.fetching, executor.engine.loaded) == (0, {})
    await executor.registry.change_wish("p", lambda wish: replace(wish, stopped=False))
    executor.files.may_fetch.set()
    await executor.until_it_says(p="1 ready")


async def test_what_may_pass_is_tried_again(executor: Executor) -> None:
    """With growing waits; the reason is told meanwhile."""
    executor.engine.refuse["p"] = UnavailableError("no memory for it")
    await executor.deploy("p")
    await executor.until_it_says(p="1 failed no memory for it")
    assert executor.engine.loaded == {}
    assert 0 < executor.pause_s() <= 2
    del executor.engine.refuse["p"]
    await executor.after(2)
    await executor.until_it_says(p="1 ready")


async def test_a_file_that_cannot_be_loaded_is_tried_again(executor: Executor) -> None:
    """It could be at its upload, so that something else may be missing here; not often, for it may be that it never can."""
    executor.files.may_fetch.clear()
    await executor.deploy("p")
    (file,) = executor.folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(b"no model")
    executor.files.may_fetch.set()
    async with asyncio.timeout(5):
        while not executor.says().get("p 1", "").startswith("failed not a model"):
            await executor.settle()
    file.write_bytes(content)
    await executor.after(29)
    assert executor.says()["p 1"].startswith("failed not a model")
    await executor.after(1)
    await executor.until_it_says(p="1 ready")


async def test_a_chain_that_does_not_fit_fails_until_it_is_asked_for_again(executor: Executor) -> None:
    """Time changes nothing about it."""
    executor.engine.refuse["p"] = InvalidArgumentError("no such column")
    key = await executor.deploy("p")
    await executor.until_it_says(p="1 failed no such column")
    del executor.engine.refuse["p"]
    await executor.after(1000)
    assert executor.says() == {"p 1": "failed no such column"}
    await executor.registry.wish(key, DeploymentConfig(replicas=1, labels=(("again", "1"),)))
    await executor.until_it_says(p="1 ready")


def _stopped(wish: Desired) -> Desired:
    return replace(wish, stopped=True)


def _started(wish: Desired) -> Desired:
    return replace(wish, stopped=False)


async def test_a_load_waits_for_one_that_was_given_up_before_it_began(executor: Executor) -> None:
    """Given up twice while the first one still ends: the third begins after it, not beside it."""
    executor.engine.may_load.clear()
    await executor.deploy("p")
    await executor.settle()
    for _ in range(2):
        for wished in (_stopped, _started):
            await executor.registry.change_wish("p", wished)
            await executor.settle()
    executor.engine.may_load.set()
    await executor.until_it_says(p="1 ready")
    await executor.settle()
    assert [key.name for key in executor.engine.hosted] == ["p"]
    assert executor.engine.most_loading == 1


async def test_one_that_breaks_does_not_stop_the_others(executor: Executor) -> None:
    """An error that nobody foresaw is hidden behind an id."""
    executor.engine.refuse["p"] = ZeroDivisionError("secret")  # type: ignore[assignment]
    await executor.deploy("p")
    await executor.deploy("q", weight=2.0)
    async with asyncio.timeout(5):
        while executor.says().get("q 1") != "ready":
            await executor.settle()
    assert executor.says()["p 1"].startswith("failed internal error ")
    assert "secret" not in executor.says()["p 1"]


async def test_who_drains_stays_until_others_have_what_it_runs(executor: Executor) -> None:
    """Then it says that all will go, and begins nothing new."""
    await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    executor.sight.join("executor", "other")
    await executor.settle()
    executor.sight.drain("executor", "me")
    waiting = asyncio.create_task(executor.app.dispensable())
    await executor.settle()
    assert not waiting.done()
    executor.sight.say("executor", "other", p="1 ready")
    await asyncio.wait_for(waiting, 5)
    executor.app.leave()
    assert executor.says() == {"p 1": "leaving"}
    await executor.deploy("q")
    await executor.after(10)
    assert executor.says() == {"p 1": "leaving"}


async def test_who_could_not_tell_what_it_runs_is_not_ready(tmp_path: Path) -> None:
    """Nobody would wait for it."""
    executor = Executor(tmp_path)
    executor.reports.may_tell.clear()
    executor.sight.join("executor", "me")
    running = asyncio.create_task(executor.app.run())
    ready = asyncio.create_task(executor.app.ready())
    await executor.settle()
    assert (executor.reports.revision >= 0, ready.done()) == (True, False)
    executor.reports.may_tell.set()
    await asyncio.wait_for(ready, 5)
    running.cancel()
    await asyncio.wait({running})


async def test_who_is_not_announced_yet_says_nothing_about_itself(tmp_path: Path) -> None:
    """Ready is who the others see; before, nothing can be assigned to it."""
    executor = Executor(tmp_path)
    running = asyncio.create_task(executor.app.run())
    ready = asyncio.create_task(executor.app.ready())
    await executor.settle()
    assert not ready.done()
    executor.sight.join("executor", "me")
    await asyncio.wait_for(ready, 5)
    await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    executor.sight.join("executor", "other")
    waiting = asyncio.create_task(executor.app.dispensable())
    executor.sight.drain("executor", "me")
    await executor.settle()
    assert not waiting.done()
    running.cancel()
    waiting.cancel()
    await asyncio.wait({running, waiting})


async def test_the_last_executor_does_not_wait_for_others(executor: Executor) -> None:
    """What fits nowhere else cannot be taken over."""
    await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    executor.sight.drain("executor", "me")
    await asyncio.wait_for(executor.app.dispensable(), 5)


async def test_loads_are_given_up_when_leaving(executor: Executor) -> None:
    """The process need not wait for a long fetch."""
    executor.files.may_fetch.clear()
    await executor.deploy("p")
    await executor.settle()
    executor.app.leave()
    assert executor.says() == {}
    await executor.settle()
    assert executor.files.fetching == 0


async def test_what_brings_the_process_down_is_left_alone(tmp_path: Path) -> None:
    """After three times, and with the reason, which stays what is said of it for the day; others are brought up."""
    for _ in range(3):
        (tmp_path / "crashes").write_text("run p 1\n")
        Quarantine(tmp_path, ManualClock())
    async with executing(tmp_path) as executor:
        await executor.deploy("p")
        await executor.deploy("q", weight=2.0)
        reason = "it brought this executor down 3 times; it is tried again a day after"
        await executor.until_it_says(p=f"1 failed {reason}", q="1 ready")
        assert executor.pause_s() == 24 * 3600
        await executor.after(23.5 * 3600)
        assert executor.pause_s() == 0.5 * 3600
        await executor.after(0.5 * 3600)
        await executor.until_it_says(p="1 ready", q="1 ready")


async def test_a_refused_change_keeps_what_is_hosted(executor: Executor) -> None:
    """An engine that refuses one version answers on for the other."""
    await executor.deploy("p")
    await executor.until_it_says(p="1 ready")
    await executor.registry.change_wish("p", _served(1))
    executor.engine.refuse["p"] = BettongError("not this one")
    await executor.deploy("p", weight=2.0)
    await executor.until_it_says(p="1 ready, 2 failed not this one")
    assert len(executor.engine.hosted) == 1
