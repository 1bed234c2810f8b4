"""What the control plane needs from the engine, so that its tests can bring their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bettong_domain.models import BatchMode, Framework, ModelId, Signature
from bettong_domain.plans import Program


class ModelEngine(Protocol):
    """Loads models and serves programs."""

    async def load_model(self, model_id: str, path: Path, framework: Framework, mode: BatchMode | None) -> Signature:
        """Load a file and return its signature; loading an id again is free.

        Raises:
            InvalidModelError: The file is damaged, not a model, or needs a newer runtime.
        """

    def unload_model(self, model_id: ModelId) -> None:
        """Forget a model; programs that use it keep it alive."""

    async def route(
        self,
        *,
        serve: Sequence[Program] = (),
        stop: Sequence[str] = (),
        unavailable: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Change what is served, as a whole.

        Args:
            serve: Programs that serve from now on, each instead of another version of its pipeline.
            stop: Pipelines that stop serving.
            unavailable: Pipelines that are known but not ready, with the reason.

        Raises:
            BettongError: A program cannot be served; nothing is changed.
        """

    async def wait_answered(self, pipeline: str, timeout_s: float) -> bool:
        """Wait for the requests of versions that no longer serve; return whether all were answered in time."""
        ...

    def runtimes(self) -> dict[str, str]:
        """Return the names and versions of the runtimes."""
