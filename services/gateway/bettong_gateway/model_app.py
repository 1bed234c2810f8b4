"""Use cases of models: take a file in, look at it, configure it, delete it."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from bettong_catalog.blob_store import BlobStore
from bettong_catalog.blobs import Upload
from bettong_catalog.registry import Registry
from bettong_domain.models import Framework, Model, ModelConfig, ModelId, ModelKey, Signature, check_config
from bettong_domain.names import check_name
from bettong_kit.clock import Clock
from bettong_kit.errors import BettongError, InvalidArgumentError, InvalidModelError, NoSpaceError
from bettong_kit.logging import get_logger
from bettong_serving.ports import ModelEngine

_NOT_ONNX = "Protobuf parsing failed"
"""What ONNX Runtime says of bytes that are something else."""
_CONVERTERS = "tf2onnx, torch.onnx and skl2onnx convert models of TensorFlow, PyTorch and scikit-learn"

_log = get_logger("models")
MAX_FILE_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """What a caller says about a file before sending it."""

    name: str
    framework: Framework
    file_name: str = ""
    size_bytes: int = 0
    sha256: str = ""
    config: ModelConfig = field(default_factory=ModelConfig)


class ModelApp:
    """Keeps files and registry in step: no entry without its file, no file without an entry."""

    def __init__(
        self, registry: Registry, blobs: BlobStore, engine: ModelEngine, *, clock: Clock, max_bytes: int
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._engine = engine
        self._clock = clock
        self._max_bytes = max_bytes
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By digest: keeping a file and entering it, and removing it as nobody's, must not overlap."""

    async def upload(self, draft: ModelDraft, chunks: AsyncIterator[bytes]) -> Model:
        """Store a file as the next version of a model, after loading it once to check it.

        Raises:
            InvalidArgumentError: The name, the digest, the length or the config is wrong, or it is not a model.
            NoSpaceError: The disk or a limit is full.

        Cancellation:
            Nothing is stored, unless the version was already entered.
        """
        self._check_draft(draft)
        with self._blobs.upload() as upload:
            async for chunk in chunks:
                await asyncio.to_thread(upload.write, chunk)
            _check_length(draft, upload)
            sha256 = await asyncio.to_thread(upload.finish, draft.sha256)
            with _naming(draft.file_name or draft.name):
                signature = await self._read_signature(upload.path, draft.framework)
            check_config(draft.config, signature)
            return await self._enter(draft, upload, sha256, signature)

    async def get(self, key: ModelKey) -> Model:
        """Return a version; 0 is the newest.

        Raises:
            NotFoundError: There is none.
        """
        return await self._registry.shown.model(key)

    async def list_models(self, name: str = "") -> list[Model]:
        """Return all versions of all models, or of one."""
        return await self._registry.shown.models(name)

    async def configure(self, key: ModelKey, config: ModelConfig) -> Model:
        """Replace the config of a version; pipelines keep the one that they were made with.

        Raises:
            NotFoundError: There is no such version.
            InvalidArgumentError: The config does not fit the model.
        """
        return await self._registry.configure_model(key, config)

    async def delete(self, key: ModelKey) -> list[int]:
        """Delete a version, or with 0 all, and the files that nothing else names.

        Raises:
            NotFoundError: There is none.
            InUseError: A pipeline uses it.
        """
        deleted = await self._registry.delete_models(key)
        for sha256 in sorted({model.sha256 for model in deleted}):
            async with self._lock(sha256):
                await self._remove_unnamed(sha256)
        _log.info("models_deleted", model=key.name, versions=[model.key.version for model in deleted])
        return [model.key.version for model in deleted]

    async def download(self, key: ModelKey) -> AsyncIterator[bytes]:
        """Yield the file of a version piece by piece.

        Raises:
            NotFoundError: There is none.
        """
        async for piece in self._blobs.read((await self._registry.shown.model(key)).sha256):
            yield piece

    async def path(self, key: ModelKey) -> Path:
        """Return where the file of a version is, for processes that share the disk.

        Raises:
            NotFoundError: There is none.
        """
        return await self._blobs.fetch((await self._registry.shown.model(key)).sha256)

    def _check_draft(self, draft: ModelDraft) -> None:
        check_name(draft.name, "name")
        if len(draft.file_name) > MAX_FILE_NAME_LENGTH:
            message = f"longer than {MAX_FILE_NAME_LENGTH} characters"
            raise InvalidArgumentError(f"file_name: {message}", fields={"file_name": message})
        if draft.size_bytes > self._max_bytes:
            raise NoSpaceError(f"the file is larger than the limit of {self._max_bytes} bytes (max_model_bytes)")

    async def _read_signature(self, path: Path, framework: Framework) -> Signature:
        """Load a file under a passing id: only a load tells whether it is a model."""
        passing = ModelId(f"check:{secrets.token_hex(8)}")
        try:
            return await self._engine.load_model(passing, path, framework, None)
        finally:
            self._engine.unload_model(passing)

    async def _enter(self, draft: ModelDraft, upload: Upload, sha256: str, signature: Signature) -> Model:
        version, runtime = self._engine.runtimes(), "onnxruntime"
        model = Model(
            key=ModelKey(draft.name, 0),
            sha256=sha256,
            size_bytes=upload.size_bytes,
            framework=draft.framework,
            signature=signature,
            config=draft.config,
            file_name=draft.file_name,
            created_ms=self._clock.epoch_ms(),
            runtime=f"{runtime} {version.get(runtime, '')}".strip(),
        )
        async with self._lock(sha256):
            try:
                await self._blobs.keep(upload, sha256)
                entered = await self._registry.add_model(model)
            except BaseException:
                # Shielded, so that a caller who left does not leave the file behind either.
                await asyncio.shield(self._remove_unnamed(sha256))
                raise
        _log.info(
            "model_uploaded", model=draft.name, version=entered.key.version, sha256=sha256, bytes=upload.size_bytes
        )
        return entered

    def _lock(self, sha256: str) -> asyncio.Lock:
        """Return the lock of a digest, which lives for as long as somebody holds it or waits."""
        return self._changing.setdefault(sha256, asyncio.Lock())

    async def _remove_unnamed(self, sha256: str) -> None:
        """Remove a file that no model names; what cannot be removed now, or may have a name, stays until the next sweep."""
        try:
            if all(model.sha256 != sha256 for model in await self._registry.models()):
                await self._blobs.remove(sha256)
        except BettongError as error:
            _log.warning("file_not_removed", sha256=sha256, reason=error.message)


@contextlib.contextmanager
def _naming(file_name: str) -> Iterator[None]:
    """Say which file it is that is no model, and what to do if it is one of another kind."""
    try:
        yield
    except InvalidModelError as error:
        message = f"{file_name}: {error.message}"
        if _NOT_ONNX in error.message:
            message = f"{file_name} is no ONNX file, or only a part of one ({_NOT_ONNX}); {_CONVERTERS}"
        raise InvalidModelError(message, fields={"model": message}) from error


def _check_length(draft: ModelDraft, upload: Upload) -> None:
    if upload.size_bytes == 0:
        message = f"{draft.file_name or 'the file'} is empty, so it is not an ONNX model"
        raise InvalidModelError(message, fields={"chunk": message})
    if draft.size_bytes and draft.size_bytes != upload.size_bytes:
        message = f"{upload.size_bytes} bytes came, {draft.size_bytes} were announced; the file is cut off"
        raise InvalidArgumentError(message, fields={"size_bytes": message})
