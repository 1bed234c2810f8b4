"""Compiling what the registry holds."""

import dataclasses

from bettong_catalog.records import Records
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program, compile_program


async def compile_stored(records: Records, key: PipelineKey) -> Program:
    """Compile a version of a pipeline with the model configs that were frozen with it; version 0 is the newest.

    Raises:
        NotFoundError: The version is not there.
        IncompatibleStepsError: Its steps do not fit, which means that rules became stricter since it was made.
    """
    pipeline = await records.pipeline(key)
    models = [dataclasses.replace(await records.model(step.model), config=step.config) for step in pipeline.steps]
    return compile_program(pipeline.key, models)
