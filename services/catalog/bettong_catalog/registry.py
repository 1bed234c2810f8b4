"""What is kept, as the domain knows it: models, pipelines and wishes over the bare keys of a store.

Versions count up for each name and are never used again, not even after a deletion. A change that depends on something else being
there guards that thing's key, so that two changes at once cannot leave a reference to nothing.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from bettong_catalog import converters
from bettong_catalog.records import (
    Records,
    deployment_key,
    model_key,
    pipeline_key,
    read_model,
    read_pipeline,
    read_wish,
)
from bettong_catalog.store import ABSENT, Entry, Store, Transaction
from bettong_domain.deployments import DeploymentConfig, Desired
from bettong_domain.models import Model, ModelConfig, ModelKey
from bettong_domain.pipelines import Pipeline, PipelineKey
from bettong_kit.clock import Clock
from bettong_kit.errors import ConflictError, InUseError, NotFoundError
from bettong_kit.etcd.backoff import Backoff

ResultT = TypeVar("ResultT")
_ATTEMPTS = 12
"""How often a change is tried again when other processes change the same keys."""


class Registry(Records):
    """Typed, consistent reading and writing of desired state. What a change depends on is read here and nowhere else."""

    def __init__(self, store: Store, clock: Clock, shown: Records | None = None) -> None:
        """Keep everything in *store*.

        Args:
            store: Has what was committed before, by whomever.
            clock: When things were wished for.
            shown: For people who only look; they may be shown what was last known when the store does not answer.
        """
        super().__init__(store)
        self.shown: Records = shown or self
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
            puts = {counter.key: counter.next_value, model_key(key): document}
            await self._store.commit(Transaction(guards={counter.key: counter.revision}, puts=puts))
            return model

        return await self._change(attempt)

    async def configure_model(self, key: ModelKey, config: ModelConfig) -> Model:
        """Replace the config of a version.

        Raises:
            NotFoundError: There is none.
            InvalidArgumentError: The config does not fit.
        """

        async def attempt() -> Model:
            entry = await self._model_entry(key)
            model = read_model(entry).configured(config)
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
            entries = await self.entries("models", key.name, key.version)
            doomed = {model.key: model for model in map(read_model, entries)}
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
            puts = {counter.key: counter.next_value, pipeline_key(pipeline.key): document}
            guards = {counter.key: counter.revision} | {entry.key: entry.revision for entry in models}
            touched = {entry.key: entry.value for entry in models}
            await self._store.commit(Transaction(guards=guards, puts=puts | touched))
            return pipeline, True

        return await self._change(attempt)

    async def delete_pipelines(self, key: PipelineKey) -> list[PipelineKey]:
        """Delete a version, or with version 0 all of them, and return what was deleted.

        Raises:
            NotFoundError: There is none.
            InUseError: One of them is deployed.
        """

        async def attempt() -> list[PipelineKey]:
            entries = await self.entries("pipelines", key.name, key.version)
            doomed = [read_pipeline(entry).key for entry in entries]
            wish = await self._store.get(deployment_key(key.name))
            desired = read_wish(wish) if wish else None
            _check_not_deployed(doomed, desired)
            deletes = [entry.key for entry in entries]
            rest = [entry for entry in await self._store.list(f"pipelines/{key.name}/") if entry.key not in deletes]
            # One that stays is guarded: when somebody deletes it meanwhile, the wish may be nobody's.
            guards = {entry.key: entry.revision for entry in rest[:1]}
            guards[deployment_key(key.name)] = wish.revision if wish else ABSENT
            if wish and not rest:
                deletes.append(wish.key)
            await self._store.commit(Transaction(guards=guards, deletes=deletes))
            return doomed

        return await self._change(attempt)

    async def wish(self, key: PipelineKey, config: DeploymentConfig) -> Desired:
        """Ask for a version to serve; version 0 is the newest.

        Raises:
            NotFoundError: There is no such version.
        """

        async def attempt() -> Desired:
            entry = (await self.entries("pipelines", key.name, key.version))[-1]
            before = await self._store.get(deployment_key(key.name))
            desired = Desired(
                pipeline=key.name,
                version=read_pipeline(entry).key.version,
                config=config,
                stopped=False,
                last_good_version=read_wish(before).last_good_version if before else 0,
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
            before = await self._store.get(deployment_key(pipeline))
            if before is None:
                raise NotFoundError(f"pipeline '{pipeline}' was never deployed")
            desired = change(read_wish(before))
            return await self._write_wish(desired, before, guards={}) if desired != read_wish(before) else desired

        return await self._change(attempt)

    async def _write_wish(self, desired: Desired, before: Entry | None, guards: dict[str, int]) -> Desired:
        key = deployment_key(desired.pipeline)
        document = converters.desired_to_stored(desired).SerializeToString()
        guarded = guards | {key: before.revision if before else ABSENT}
        revision = await self._store.commit(Transaction(guards=guarded, puts={key: document}))
        return dataclasses.replace(desired, revision=revision)

    async def _model_entry(self, key: ModelKey) -> Entry:
        return (await self.entries("models", key.name, key.version))[-1]

    async def _newest_pipeline(self, name: str) -> Pipeline | None:
        versions = await self.pipelines(name)
        return versions[-1] if versions else None

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
