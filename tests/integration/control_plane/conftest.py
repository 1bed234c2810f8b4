"""A control plane with a real store, real blobs and an engine that runs nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.clock import ManualClock
from fakes.engine import FakeEngine
from fakes.models import linear_model

from bettong_domain.deployments import Deployment, DeploymentConfig
from bettong_domain.models import Framework, Model, ModelConfig
from bettong_domain.pipelines import PipelineKey
from bettong_gateway.app import App, open_app
from bettong_gateway.model_app import ModelDraft


@dataclass
class Plane:
    """What a test drives and looks at."""

    app: App
    engine: FakeEngine
    folder: Path

    async def upload(self, name: str, content: bytes = b"", *, config: ModelConfig | None = None) -> Model:
        """Upload a model of four columns, or what is given."""
        draft = ModelDraft(name, Framework.ONNX, f"{name}.onnx", config=config or ModelConfig())
        return await self.app.models.upload(draft, _pieces(content or linear_model(4)))

    async def pipeline(self, name: str, *models: Model) -> PipelineKey:
        """Make a pipeline version of models."""
        return (await self.app.pipelines.create_version(name, [model.key for model in models])).key

    async def deploy(self, key: PipelineKey) -> list[Deployment]:
        """Deploy a version and return its states."""
        async with self.reconciling():
            return [state async for state in self.app.deployments.deploy(key, DeploymentConfig())]

    async def undeploy(self, pipeline: str) -> Deployment:
        """Stop a pipeline."""
        async with self.reconciling():
            return await self.app.deployments.undeploy(pipeline)

    @asynccontextmanager
    async def reconciling(self) -> AsyncIterator[None]:
        """Keep the reconciler going inside the block."""
        running = asyncio.ensure_future(self.app.reconciler.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})

    def blobs(self) -> list[str]:
        """Return the names of all files in the blob folder."""
        return sorted(path.name for path in (self.folder / "models").iterdir())


OpenPlane = Callable[[], AbstractAsyncContextManager[Plane]]


@pytest.fixture
def open_plane(tmp_path: Path) -> OpenPlane:
    """Return what opens a control plane over the same folder again and again, each with a new engine."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Plane]:
        engine = FakeEngine()
        context = open_app(tmp_path, engine, clock=ManualClock(), max_model_bytes=100_000, load_parallelism=2)
        async with context as app:
            yield Plane(app, engine, tmp_path)

    return opened


@pytest.fixture
async def plane(open_plane: OpenPlane) -> AsyncIterator[Plane]:
    """Open an empty control plane."""
    async with open_plane() as opened:
        yield opened


async def _pieces(content: bytes, size: int = 100) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
