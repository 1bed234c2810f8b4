"""The control plane, put together from its parts."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bettong_catalog.blob_store import LocalBlobStore
from bettong_catalog.blobs import Blobs
from bettong_catalog.registry import Registry
from bettong_catalog.sqlite_store import SqliteStore
from bettong_gateway.deployment_app import DeploymentApp
from bettong_gateway.model_app import ModelApp
from bettong_gateway.pipeline_app import PipelineApp
from bettong_gateway.progress import Progress
from bettong_gateway.reconcile import Reconciler
from bettong_gateway.reconciles import Reconciles
from bettong_kit.clock import Clock
from bettong_serving.loaded_models import LoadedModels
from bettong_serving.ports import ModelEngine


@dataclass(frozen=True, slots=True)
class App:
    """Use cases by what they are about, and the task that makes wishes come true."""

    models: ModelApp
    pipelines: PipelineApp
    deployments: DeploymentApp
    reconciler: Reconciles


@contextlib.asynccontextmanager
async def open_app(
    folder: Path, engine: ModelEngine, *, clock: Clock, max_model_bytes: int, load_parallelism: int
) -> AsyncIterator[App]:
    """Open the state in a data folder that is already locked, removing what a crash left; close it at the end.

    Raises:
        DataFolderError: The state cannot be read.
    """
    blobs = LocalBlobStore(Blobs(folder / "models", max_bytes=max_model_bytes))
    async with contextlib.AsyncExitStack() as stack:
        store = SqliteStore(folder / "state.db")
        stack.push_async_callback(store.close)
        registry = Registry(store, clock)
        await blobs.sweep(frozenset(model.sha256 for model in await registry.models()))
        progress = Progress()
        models = LoadedModels(engine, blobs)
        reconciler = Reconciler(registry, models, engine, progress=progress, parallelism=load_parallelism)
        yield App(
            models=ModelApp(registry, blobs, engine, clock=clock, max_bytes=max_model_bytes),
            pipelines=PipelineApp(registry, reconciler, clock=clock),
            deployments=DeploymentApp(registry, reconciler, progress, engine=engine, clock=clock),
            reconciler=reconciler,
        )
