"""Bringing one pipeline version up: compile, fetch, load, answer for it; all of that or nothing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from bettong_domain.models import ModelId
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program
from bettong_executor.quarantine import Quarantine
from bettong_kit.errors import BettongError
from bettong_kit.tasks import finished
from bettong_serving.loaded_models import LoadedModels
from bettong_serving.ports import HostingEngine

OnStep = Callable[[str], None]
"""Told in words how far it has come."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class BringUp:
    """What brings versions up and takes them down again."""

    engine: HostingEngine
    models: LoadedModels
    compiled: Callable[[PipelineKey], Awaitable[Program]]
    """Returns the program of a version as it is stored."""
    quarantine: Quarantine

    async def up(self, key: PipelineKey, on_step: OnStep) -> Program:
        """Have the engine answer for a version and return its program.

        Raises:
            BettongError: It cannot be; nothing is left of it.

        Cancellation:
            The same; a model that is being loaded is waited for.
        """
        program = await self.compiled(key)
        self.quarantine.check(program)
        used: list[ModelId] = []
        try:
            for step in program.steps:
                used.append(step.model_id)
                await self.models.load(step, partial(_tell, on_step, str(step.model.key)))
            await finished(self.engine.host(serve=[program]))
        except asyncio.CancelledError:
            # It may have happened; stopping what is not there is fine.
            try:
                with contextlib.suppress(BettongError):
                    await finished(self.engine.host(stop=[key]))
            finally:
                self.models.release(used)
            raise
        except BaseException:
            self.models.release(used)
            raise
        return program

    async def down(self, program: Program) -> None:
        """Have the engine answer no more for a version; calls that it has are answered."""
        await finished(self.engine.host(stop=[program.key]))
        self.models.release(step.model_id for step in program.steps)


def _tell(on_step: OnStep, model: str, done: int, total: int) -> None:
    on_step(f"fetching {model}: {done // _MIB} of {-(-total // _MIB)} MiB")
