"""Reading what is kept, as the domain knows it: models, pipelines and wishes from the bare keys of a store or of a copy."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from bettong.internal.v1 import stored_pb2
from bettong.v1 import models_pb2
from bettong_catalog import converters
from bettong_catalog.store import Entry, Reader
from bettong_domain.deployments import Desired
from bettong_domain.models import Model, ModelKey
from bettong_domain.pipelines import Pipeline, PipelineKey
from bettong_kit.errors import CorruptDataError, InvalidArgumentError, NotFoundError

MessageT = TypeVar("MessageT", bound=Message)
FoundT = TypeVar("FoundT")


class Records:
    """Typed reading of desired state, as true as what is read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def model(self, key: ModelKey) -> Model:
        """Return a version of a model; version 0 is the newest.

        Raises:
            NotFoundError: There is none.
        """
        return read_model((await self.entries("models", key.name, key.version))[-1])

    async def models(self, name: str = "") -> list[Model]:
        """Return all versions of all models, or of one, ordered by name and version."""
        return [read_model(entry) for entry in await self._reader.list(f"models/{name}/" if name else "models/")]

    async def pipeline(self, key: PipelineKey) -> Pipeline:
        """Return a version of a pipeline; version 0 is the newest.

        Raises:
            NotFoundError: There is none.
        """
        return read_pipeline((await self.entries("pipelines", key.name, key.version))[-1])

    async def pipelines(self, name: str = "") -> list[Pipeline]:
        """Return all versions of all pipelines, or of one, ordered by name and version."""
        return [
            read_pipeline(entry) for entry in await self._reader.list(f"pipelines/{name}/" if name else "pipelines/")
        ]

    async def wish_for(self, pipeline: str) -> Desired | None:
        """Return the wish for a pipeline, or None if it was never deployed."""
        entry = await self._reader.get(deployment_key(pipeline))
        return read_wish(entry) if entry else None

    async def wishes(self) -> list[Desired]:
        """Return the wishes for all pipelines, ordered by name."""
        return [read_wish(entry) for entry in await self._reader.list("deployments/")]

    async def entries(self, kind: str, name: str, version: int) -> Sequence[Entry]:
        """Return the entry of a version, or with 0 those of all versions; never none.

        Raises:
            NotFoundError: There is none.
        """
        if version:
            entry = await self._reader.get(f"{kind}/{name}/{version:010}")
            entries = [entry] if entry else []
        else:
            entries = await self._reader.list(f"{kind}/{name}/")
        if not entries:
            which = f" version {version}" if version else ""
            raise NotFoundError(f"there is no {kind.removesuffix('s')} '{name[:100]}'{which}")
        return entries


def model_key(key: ModelKey) -> str:
    """Return where a version of a model is kept."""
    # Padded, so that the order of keys is the order of versions.
    return f"models/{key.name}/{key.version:010}"


def pipeline_key(key: PipelineKey) -> str:
    """Return where a version of a pipeline is kept."""
    return f"pipelines/{key.name}/{key.version:010}"


def deployment_key(pipeline: str) -> str:
    """Return where the wish for a pipeline is kept."""
    return f"deployments/{pipeline}"


def read_model(entry: Entry) -> Model:
    """Return a version of a model.

    Raises:
        CorruptDataError: Something else, or a newer version, wrote it.
    """
    return _decoded(models_pb2.Model, entry, converters.model_from_pb)


def read_pipeline(entry: Entry) -> Pipeline:
    """Return a version of a pipeline.

    Raises:
        CorruptDataError: Something else, or a newer version, wrote it.
    """
    return _decoded(stored_pb2.StoredPipeline, entry, converters.pipeline_from_stored)


def read_wish(entry: Entry) -> Desired:
    """Return a wish.

    Raises:
        CorruptDataError: Something else, or a newer version, wrote it.
    """
    return _decoded(
        stored_pb2.StoredDeployment, entry, lambda stored: converters.desired_from_stored(stored, entry.revision)
    )


def _decoded(kind: type[MessageT], entry: Entry, convert: Callable[[MessageT], FoundT]) -> FoundT:
    try:
        return convert(kind.FromString(entry.value))
    except (DecodeError, KeyError, ValueError, InvalidArgumentError) as error:
        raise CorruptDataError(
            f"the stored {entry.key} cannot be read; something else, or a newer version, wrote it"
        ) from error
