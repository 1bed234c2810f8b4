"""Use cases of pipelines: check a chain, freeze it, look at it, delete it."""

from collections.abc import Sequence

from bettong_catalog.programs import compile_stored
from bettong_catalog.registry import Registry
from bettong_domain.models import Model, ModelKey
from bettong_domain.names import check_name
from bettong_domain.pipelines import Pipeline, PipelineKey, Step, check_step_count
from bettong_domain.plans import Program, compile_program
from bettong_gateway.reconciles import Reconciles
from bettong_kit.clock import Clock
from bettong_kit.logging import get_logger

_log = get_logger("pipelines")


class PipelineApp:
    """The pipeline registry."""

    def __init__(self, registry: Registry, reconciler: Reconciles, *, clock: Clock) -> None:
        self._registry = registry
        self._reconciler = reconciler
        self._clock = clock

    async def create_version(self, name: str, models: Sequence[ModelKey]) -> Pipeline:
        """Freeze a chain of models with their present configs; the same chain again is the same version.

        Raises:
            InvalidArgumentError: The name is wrong, there are no steps, or their columns do not fit.
            NotFoundError: A model is not there.
        """
        check_name(name, "name")
        check_step_count(len(models))
        found = [await self._registry.model(key) for key in models]
        program = compile_program(PipelineKey(name, 0), found)
        draft = Pipeline(
            key=program.key,
            steps=tuple(Step(model.key, model.config) for model in found),
            signature=program.signature,
            created_ms=self._clock.epoch_ms(),
        )
        pipeline, is_new = await self._registry.add_pipeline(draft)
        if is_new:
            _log.info("pipeline_version_created", pipeline=name, version=pipeline.key.version, steps=len(models))
        return pipeline

    async def get(self, key: PipelineKey) -> Pipeline:
        """Return a version; 0 is the newest.

        Raises:
            NotFoundError: There is none.
        """
        return await self._registry.shown.pipeline(key)

    async def list_pipelines(self, name: str = "") -> list[Pipeline]:
        """Return all versions of all pipelines, or of one."""
        return await self._registry.shown.pipelines(name)

    async def delete(self, key: PipelineKey) -> list[int]:
        """Delete a version, or with 0 all.

        Raises:
            NotFoundError: There is none.
            InUseError: One of them is deployed.
        """
        deleted = await self._registry.delete_pipelines(key)
        self._reconciler.wake(key.name)
        _log.info("pipelines_deleted", pipeline=key.name, versions=[gone.version for gone in deleted])
        return [gone.version for gone in deleted]

    async def program(self, key: PipelineKey) -> tuple[Program, list[Model]]:
        """Return a version compiled, and its models in the order of its steps.

        Raises:
            NotFoundError: There is none.
        """
        program = await compile_stored(self._registry.shown, key)
        return program, [step.model for step in program.steps]
