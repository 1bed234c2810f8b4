"""From desired to running: the one path that starts, changes, stops and restores what is served."""

import asyncio
import dataclasses
import uuid
from collections.abc import Callable, Mapping

from bettong_catalog.programs import compile_stored
from bettong_catalog.registry import Registry
from bettong_domain.deployments import Deployment, DeploymentState, Desired, ModelStatus
from bettong_domain.models import ModelId
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program, ProgramStep
from bettong_gateway.progress import Progress
from bettong_kit.errors import BettongError
from bettong_kit.logging import get_logger
from bettong_serving.loaded_models import LoadedModels
from bettong_serving.ports import ModelEngine

_log = get_logger("reconcile")


class Reconciler:
    """Makes the engine serve what the registry asks for. One pass at a time; wake-ups meanwhile cause one more pass."""

    def __init__(
        self, registry: Registry, models: LoadedModels, engine: ModelEngine, *, progress: Progress, parallelism: int
    ) -> None:
        self._registry = registry
        self._models = models
        self._engine = engine
        self._progress = progress
        self._parallelism = asyncio.Semaphore(parallelism)
        self._running: dict[str, Program] = {}
        self._done: dict[str, int] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def wake(self, pipeline: str) -> None:
        """Ask for a pass soon, because the wish for a pipeline changed."""
        self._changed.add(pipeline)
        self._wake.set()

    async def run(self) -> None:
        """Make passes until cancelled.

        Cancellation:
            What is being brought up is given up; the wishes stay.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            wishes = {pipeline: await self._registry.wish_for(pipeline) for pipeline in sorted(changed)}
            await self._reconcile(wishes)

    async def restore(self) -> None:
        """Bring back everything that is wished for; until it is there, requests for it are told that it is starting."""
        wishes = await self._registry.wishes()
        starting = [(wish.pipeline, "starting") for wish in wishes if not wish.stopped]
        if starting:
            await self._engine.route(unavailable=starting)
        await self._reconcile({wish.pipeline: wish for wish in wishes})

    async def _reconcile(self, wishes: Mapping[str, Desired | None]) -> None:
        """Make one pass over some wishes; None is one whose pipeline was deleted."""
        async with asyncio.TaskGroup() as tasks:
            for pipeline, wish in wishes.items():
                if wish is None:
                    self._progress.forget(pipeline)
                    self._done.pop(pipeline, None)
                elif self._done.get(pipeline) != wish.revision:
                    tasks.create_task(self._fulfil(wish), name=f"deploy {pipeline}")

    async def _fulfil(self, wish: Desired) -> None:
        async with self._parallelism:
            self._done[wish.pipeline] = wish.revision
            try:
                await (self._stop(wish) if wish.stopped else self._start(wish))
            except BettongError as error:
                await self._fail(wish, error.message)
            except Exception:  # noqa: BLE001 - top loop of a deployment: one that breaks must not stop the others
                error_id = uuid.uuid4().hex[:12]
                _log.exception("deployment_broke", pipeline=wish.pipeline, error_id=error_id)
                await self._fail(wish, f"internal error {error_id}")

    async def _start(self, wish: Desired) -> None:
        self._report(wish, DeploymentState.STARTING)
        program = await compile_stored(self._registry, PipelineKey(wish.pipeline, wish.version))
        await self._serve(wish, program)
        done = dataclasses.replace(wish, last_good_version=wish.version)
        kept = await self._registry.change_wish(wish.pipeline, _remember_good(wish.version))
        if dataclasses.replace(kept, revision=wish.revision) == done:
            # Our own note is no new wish.
            self._done[wish.pipeline] = kept.revision
            done = kept
        statuses = tuple(_status(step, DeploymentState.RUNNING) for step in program.steps)
        self._report(done, DeploymentState.RUNNING, models=statuses)
        _log.info("deployment_running", pipeline=wish.pipeline, version=wish.version)

    async def _serve(self, wish: Desired, program: Program) -> None:
        """Load what a program needs and let it serve instead of the one before, or leave everything as it was."""
        used: list[ModelId] = []
        try:
            for number, step in enumerate(program.steps):
                loaded = (_status(done, DeploymentState.RUNNING) for done in program.steps[:number])
                waiting = (_status(later, DeploymentState.STARTING) for later in program.steps[number:])
                self._report(wish, DeploymentState.STARTING, models=(*loaded, *waiting))
                used.append(step.model_id)
                await self._models.load(step)
            await self._engine.route(serve=[program])
        except BaseException:
            self._models.release(used)
            raise
        before = self._running.get(wish.pipeline)
        self._running[wish.pipeline] = program
        if before is not None:
            self._models.release(step.model_id for step in before.steps)

    async def _stop(self, wish: Desired) -> None:
        before = self._running.pop(wish.pipeline, None)
        # Without `stop` a pipeline that failed would go on being called "not ready" instead of unknown.
        await self._engine.route(stop=[wish.pipeline])
        if before is not None:
            self._models.release(step.model_id for step in before.steps)
        self._report(wish, DeploymentState.STOPPED)
        _log.info("deployment_stopped", pipeline=wish.pipeline)

    async def _fail(self, wish: Desired, reason: str) -> None:
        """Note why a wish cannot be fulfilled; what served before goes on, or is brought back after a restart."""
        _log.error("deployment_failed", pipeline=wish.pipeline, version=wish.version, reason=reason)
        if wish.pipeline not in self._running and wish.last_good_version not in {0, wish.version}:
            await self._bring_back(wish)
        if wish.pipeline not in self._running:
            await self._engine.route(unavailable=[(wish.pipeline, reason)])
        self._report(wish, DeploymentState.ERROR, reason=reason)

    async def _bring_back(self, wish: Desired) -> None:
        try:
            program = await compile_stored(self._registry, PipelineKey(wish.pipeline, wish.last_good_version))
            await self._serve(wish, program)
        except BettongError as error:
            _log.error("last_good_version_failed", pipeline=wish.pipeline, reason=error.message)

    def _report(
        self, wish: Desired, state: DeploymentState, *, reason: str = "", models: tuple[ModelStatus, ...] = ()
    ) -> None:
        running = self._running.get(wish.pipeline)
        serving_version = running.key.version if running else 0
        before = self._progress.get(wish.pipeline)
        kept = before.models if before and state is DeploymentState.ERROR else models
        self._progress.report(Deployment(wish, state, serving_version, reason, kept))


def _remember_good(version: int) -> Callable[[Desired], Desired]:
    return lambda desired: dataclasses.replace(desired, last_good_version=version)


def _status(step: ProgramStep, state: DeploymentState) -> ModelStatus:
    return ModelStatus(step.model.key, step.model.sha256, state)
