"""What is kept, as the domain knows it: models, pipelines and wishes over the bare keys of a store.

Versions count up for each name and are never used again, not even after a deletion. A change that depends on something else being
there guards that thing's key, so that two changes at once cannot leave a reference to nothing.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from bettong.internal.v1 import stored_pb2
from bettong.v1 import models_pb2
from bettong_catalog import converters
from bettong_catalog.store import ABSENT, Entry, Store, Transaction
from bettong_domain.deployments import DeploymentConfig, Desired
from bettong_domain.models import Model, ModelConfig, ModelKey
from bettong_domain.pipelines import Pipeline, PipelineKey
from bettong_kit.clock import Clock
from bettong_kit.errors import ConflictError, CorruptDataError, InUseError, NotFoundError
from bettong_kit.etcd.backoff import Backoff

ResultT = TypeVar("ResultT")
MessageT = TypeVar("MessageT", bound=Message)
_ATTEMPTS = 12
"""How often a change is tried again when other processes change the same keys."""


class Registry:
    """Typed, consistent reading and writing of desired state."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # Changes of one process wait for each other instead of failing each other.
        self._changing = asyncio.Lock()

    async def add_model(self, draft: Model) -> Model:
        """Keep a model under the next version of its name and return it with that version."""

        async def attempt() -> Model:
            counter = await self._next_version("models", draft.key.name)
            key = ModelKey(draft.key.name, counter.value)
            model = dataclasses.replace(draft, key=key)
            document = converters.model_to_pb(model).SerializeToString()
            puts = {counter.key: counter.next_value, _model_key(key): document}
            await self._store.commit(Transaction(guards={counter.key: counter.revision}, puts=puts))
            return model

        return await self._change(attempt)

    async def model(self, key: ModelKey) -> Model:
        """Return a version of a model; version 0 is the newest.

        Raises:
            NotFoundError: There is none.
        """
        return _model(await self._model_entry(key))

    async def models(self, name: str = "") -> list[Model]:
        """Return all versions of all models, or of one, ordered by name and version."""
        return [_model(entry) for entry in await self._store.list(f"models/{name}/" if name else "models/")]

    async def configure_model(self, key: ModelKey, config: ModelConfig) -> Model:
        """Replace the config of a version.

        Raises:
            NotFoundError: There is none.
            InvalidArgumentError: The config does not fit.
        """

        async def attempt() -> Model:
            entry = await self._model_entry(key)
            model = _model(entry).configured(config)
            document = converters.model_to_pb(model).SerializeToString()
            await self._store.commit(Transaction(guards={entry.key: entry.revision}, puts={entry.key: document}))
            return model

        return await self._change(attempt)

    async def delete_models(self, key: ModelKey) -> list[Model]:
        """Delete a version, or with version 0 all of them, and return what was deleted.

        Raises:
            NotFoundError: There is none.
            InUseError: A pipeline version uses one of them; names it.
        """

        async def attempt() -> list[Model]:
            entries = await self._entries("models", key.name, key.version)
            doomed = {model.key: model for model in map(_model, entries)}
            for pipeline in await self.pipelines():
                used = next((step.model for step in pipeline.steps if step.model in doomed), None)
                if used is not None:
                    raise InUseError(f"model {used} is used by pipeline {pipeline.key}; delete that first")
            await self._store.commit(_deletion(entries))
            return list(doomed.values())

        return await self._change(attempt)

    async def add_pipeline(self, draft: Pipeline) -> tuple[Pipeline, bool]:
        """Keep a pipeline under the next version of its name, or find that the newest one is the same.

        Returns:
            The pipeline with its version, and whether that is new.

        Raises:
            NotFoundError: A model was deleted meanwhile.
        """

        async def attempt() -> tuple[Pipeline, bool]:
            counter = await self._next_version("pipelines", draft.key.name)
            newest = await self._newest_pipeline(draft.key.name)
            if newest is not None and newest.steps == draft.steps:
                return newest, False
            pipeline = dataclasses.replace(draft, key=PipelineKey(draft.key.name, counter.value))
            # Writing the models again moves their revision, which makes a deletion that began before us fail and look again.
            models = [await self._model_entry(step.model) for step in draft.steps]
            document = converters.pipeline_to_stored(pipeline).SerializeToString()
            puts = {counter.key: counter.next_value, _pipeline_key(pipeline.key): document}
            guards = {counter.key: counter.revision} | {entry.key: entry.revision for entry in models}
            touched = {entry.key: entry.value for entry in models}
            await self._store.commit(Transaction(guards=guards, puts=puts | touched))
            return pipeline, True

        return await self._change(attempt)

    async def pipeline(self, key: PipelineKey) -> Pipeline:
        """Return a version of a pipeline; version 0 is the newest.

        Raises:
            NotFoundError: There is none.
        """
        return _pipeline((await self._entries("pipelines", key.name, key.version))[-1])

    async def pipelines(self, name: str = "") -> list[Pipeline]:
        """Return all versions of all pipelines, or of one, ordered by name and version."""
        return [_pipeline(entry) for entry in await self._store.list(f"pipelines/{name}/" if name else "pipelines/")]

    async def delete_pipelines(self, key: PipelineKey) -> list[PipelineKey]:
        """Delete a version, or with version 0 all of them, and return what was deleted.

        Raises:
            NotFoundError: There is none.
            InUseError: One of them is deployed.
        """

        async def attempt() -> list[PipelineKey]:
            entries = await self._entries("pipelines", key.name, key.version)
            doomed = [_pipeline(entry).key for entry in entries]
            wish = await self._store.get(_deployment_key(key.name))
            desired = _desired(wish) if wish else None
            _check_not_deployed(doomed, desired)
            rest = len(await self._store.list(f"pipelines/{key.name}/")) - len(doomed)
            guards = {_deployment_key(key.name): wish.revision if wish else ABSENT}
            deletes = [entry.key for entry in entries] + ([wish.key] if wish and not rest else [])
            await self._store.commit(Transaction(guards=guards, deletes=deletes))
            return doomed

        return await self._change(attempt)

    async def wish(self, key: PipelineKey, config: DeploymentConfig) -> Desired:
        """Ask for a version to serve; version 0 is the newest.

        Raises:
            NotFoundError: There is no such version.
        """

        async def attempt() -> Desired:
            entry = (await self._entries("pipelines", key.name, key.version))[-1]
            before = await self._store.get(_deployment_key(key.name))
            desired = Desired(
                pipeline=key.name,
                version=_pipeline(entry).key.version,
                config=config,
                stopped=False,
                last_good_version=_desired(before).last_good_version if before else 0,
                updated_ms=self._clock.epoch_ms(),
            )
            return await self._write_wish(desired, before, guards={entry.key: entry.revision})

        return await self._change(attempt)

    async def change_wish(self, pipeline: str, change: Callable[[Desired], Desired]) -> Desired:
        """Replace a wish by what *change* makes of it.

        Raises:
            NotFoundError: The pipeline was never deployed.
        """

        async def attempt() -> Desired:
            before = await self._store.get(_deployment_key(pipeline))
            if before is None:
                raise NotFoundError(f"pipeline '{pipeline}' was never deployed")
            desired = change(_desired(before))
            return await self._write_wish(desired, before, guards={}) if desired != _desired(before) else desired

        return await self._change(attempt)

    async def wish_for(self, pipeline: str) -> Desired | None:
        """Return the wish for a pipeline, or None if it was never deployed."""
        entry = await self._store.get(_deployment_key(pipeline))
        return _desired(entry) if entry else None

    async def wishes(self) -> list[Desired]:
        """Return the wishes for all pipelines, ordered by name."""
        return [_desired(entry) for entry in await self._store.list("deployments/")]

    async def _write_wish(self, desired: Desired, before: Entry | None, guards: dict[str, int]) -> Desired:
        key = _deployment_key(desired.pipeline)
        document = converters.desired_to_stored(desired).SerializeToString()
        guarded = guards | {key: before.revision if before else ABSENT}
        revision = await self._store.commit(Transaction(guards=guarded, puts={key: document}))
        return dataclasses.replace(desired, revision=revision)

    async def _model_entry(self, key: ModelKey) -> Entry:
        return (await self._entries("models", key.name, key.version))[-1]

    async def _newest_pipeline(self, name: str) -> Pipeline | None:
        versions = await self.pipelines(name)
        return versions[-1] if versions else None

    async def _entries(self, kind: str, name: str, version: int) -> Sequence[Entry]:
        """Return the entry of a version, or with 0 those of all versions; never none."""
        if version:
            entry = await self._store.get(f"{kind}/{name}/{version:010}")
            entries = [entry] if entry else []
        else:
            entries = await self._store.list(f"{kind}/{name}/")
        if not entries:
            which = f" version {version}" if version else ""
            raise NotFoundError(f"there is no {kind.removesuffix('s')} '{name[:100]}'{which}")
        return entries

    async def _change(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Read and write again as long as another process is faster, a bounded number of times."""
        backoff = Backoff(first_s=0.005, longest_s=0.2)
        async with self._changing:
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await attempt()
                except ConflictError:
                    await asyncio.sleep(backoff.next_s())
            return await attempt()

    async def _next_version(self, kind: str, name: str) -> "_Counter":
        key = f"counters/{kind}/{name}"
        entry = await self._store.get(key)
        return _Counter(key, entry.revision if entry else ABSENT, int(entry.value) + 1 if entry else 1)


@dataclasses.dataclass(frozen=True, slots=True)
class _Counter:
    """The next version of a name."""

    key: str
    revision: int
    value: int

    @property
    def next_value(self) -> bytes:
        return b"%d" % self.value


def _check_not_deployed(doomed: Sequence[PipelineKey], desired: Desired | None) -> None:
    if desired is None or desired.stopped:
        return
    held = {desired.version, desired.last_good_version}
    deployed = next((key for key in doomed if key.version in held), None)
    if deployed is not None:
        raise InUseError(f"pipeline {deployed} is deployed; undeploy it first")


def _deletion(entries: Sequence[Entry]) -> Transaction:
    return Transaction(
        guards={entry.key: entry.revision for entry in entries}, deletes=[entry.key for entry in entries]
    )


def _model_key(key: ModelKey) -> str:
    # Padded, so that the order of keys is the order of versions.
    return f"models/{key.name}/{key.version:010}"


def _pipeline_key(key: PipelineKey) -> str:
    return f"pipelines/{key.name}/{key.version:010}"


def _deployment_key(pipeline: str) -> str:
    return f"deployments/{pipeline}"


def _model(entry: Entry) -> Model:
    return converters.model_from_pb(_decoded(models_pb2.Model, entry))


def _pipeline(entry: Entry) -> Pipeline:
    return converters.pipeline_from_stored(_decoded(stored_pb2.StoredPipeline, entry))


def _desired(entry: Entry) -> Desired:
    return converters.desired_from_stored(_decoded(stored_pb2.StoredDeployment, entry), entry.revision)


def _decoded(kind: type[MessageT], entry: Entry) -> MessageT:
    try:
        return kind.FromString(entry.value)
    except DecodeError as error:
        raise CorruptDataError(f"the stored {entry.key} cannot be read; something else wrote it") from error
