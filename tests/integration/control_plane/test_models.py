"""Uploading, configuring and deleting models."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from fakes.models import linear_model
from integration.control_plane.conftest import OpenPlane, Plane

from bettong_catalog.sqlite_store import SqliteStore
from bettong_domain.models import Framework, ModelConfig, ModelKey
from bettong_gateway.model_app import ModelDraft
from bettong_kit.errors import (
    InUseError,
    InvalidArgumentError,
    InvalidModelError,
    InvalidNameError,
    NoSpaceError,
    NotFoundError,
)


async def test_an_upload_is_the_next_version_of_its_name(plane: Plane) -> None:
    """The same name again is a new version, also with the same content; the content is kept once."""
    first, second = await plane.upload("m"), await plane.upload("m")
    other = await plane.upload("m", linear_model(5))
    assert [model.key.version for model in (first, second, other)] == [1, 2, 3]
    assert first.sha256 == second.sha256 != other.sha256
    assert plane.blobs() == sorted({first.sha256, other.sha256})
    assert await plane.app.models.get(ModelKey("m", 0)) == other


async def test_a_model_tells_what_it_is(plane: Plane) -> None:
    """Digest, size, signature, file name, time and runtime are those of the file that came."""
    content = linear_model(4)
    model = await plane.upload("m", content, config=ModelConfig(tensor_fields=("t",)))
    assert (model.sha256, model.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert [str(spec) for spec in (*model.signature.inputs, *model.signature.outputs)] == ["FP32[-1,4]", "FP32[-1,1]"]
    assert (model.file_name, model.created_ms, model.runtime) == ("m.onnx", 1_700_000_000_000, "onnxruntime 1.31.1")
    assert await plane.app.models.list_models() == [model]


async def test_checking_a_file_leaves_nothing_loaded(plane: Plane) -> None:
    """A model costs memory when it is deployed, not when it is stored."""
    await plane.upload("m")
    assert (plane.engine.loads, plane.engine.loaded) == (1, {})


@pytest.mark.parametrize("content", [b"not a model", linear_model(4)[:50]])
async def test_what_is_not_a_model_is_not_stored(plane: Plane, content: bytes) -> None:
    """Nothing is left: no version, no file, no number used."""
    with pytest.raises(InvalidModelError):
        await plane.upload("m", content)
    assert (plane.blobs(), await plane.app.models.list_models()) == ([], [])
    assert (await plane.upload("m")).key.version == 1


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


@pytest.mark.parametrize(
    ("draft", "content", "error"),
    [
        (ModelDraft("No", Framework.ONNX), linear_model(4), InvalidNameError),
        (ModelDraft("m", Framework.ONNX, "x" * 256), linear_model(4), InvalidArgumentError),
        (ModelDraft("m", Framework.ONNX, size_bytes=1), linear_model(4), InvalidArgumentError),
        (ModelDraft("m", Framework.ONNX, size_bytes=200_000), linear_model(4), NoSpaceError),
        (ModelDraft("m", Framework.ONNX, sha256="0" * 64), linear_model(4), InvalidArgumentError),
        (ModelDraft("m", Framework.ONNX), b"", InvalidModelError),
        (ModelDraft("m", Framework.ONNX), b"x" * 200_000, NoSpaceError),
        (
            ModelDraft("m", Framework.ONNX, config=ModelConfig(tensor_fields=("a", "b"))),
            linear_model(4),
            InvalidArgumentError,
        ),
    ],
    ids=["name", "file name", "cut off", "announced too long", "digest", "empty", "too long", "config"],
)
async def test_an_upload_that_breaks_a_rule_leaves_nothing(
    plane: Plane, draft: ModelDraft, content: bytes, error: type[Exception]
) -> None:
    """Whatever is wrong is found before anything is stored."""
    with pytest.raises(error):
        await plane.app.models.upload(draft, _chunks(content))
    assert (plane.blobs(), await plane.app.models.list_models()) == ([], [])


async def test_a_caller_that_leaves_leaves_nothing(plane: Plane) -> None:
    """A cancelled upload is gone."""
    began = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        began.set()
        await asyncio.Event().wait()

    uploading = asyncio.ensure_future(plane.app.models.upload(ModelDraft("m", Framework.ONNX), endless()))
    await began.wait()
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert (plane.blobs(), await plane.app.models.list_models()) == ([], [])


async def test_an_upload_that_cannot_be_entered_leaves_no_file(plane: Plane) -> None:
    """When the disk has room for the file and none for its entry, the file goes too and nothing else is harmed."""
    store = plane.app.models._registry._store
    assert isinstance(store, SqliteStore)
    await plane.upload("m")
    pages = await store._call(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await store._call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with pytest.raises(NoSpaceError, match="desired state"):
        for width in range(5, 200):
            await plane.upload("m", linear_model(width))
    named = {model.sha256 for model in await plane.app.models.list_models()}
    assert plane.blobs() == sorted(named)


async def test_many_uploads_at_once_get_versions_of_their_own(plane: Plane) -> None:
    """Numbers are given once, however many ask."""
    async with asyncio.TaskGroup() as tasks:
        uploads = [tasks.create_task(plane.upload("m", linear_model(width))) for width in range(1, 9)]
    assert sorted(upload.result().key.version for upload in uploads) == list(range(1, 9))


async def test_a_file_comes_back_as_it_went(plane: Plane) -> None:
    """Downloads are what was uploaded."""
    content = linear_model(7)
    model = await plane.upload("m", content)
    assert b"".join([piece async for piece in plane.app.models.download(model.key)]) == content
    assert (await plane.app.models.path(model.key)).read_bytes() == content


async def test_configuring_replaces_the_settings_of_one_version(plane: Plane) -> None:
    """Other versions are not touched; the file is not either."""
    first, second = await plane.upload("m"), await plane.upload("m")
    changed = await plane.app.models.configure(second.key, ModelConfig(tensor_fields=("t",)))
    assert changed.config.tensor_fields == ("t",)
    assert await plane.app.models.list_models("m") == [first, changed]


async def test_a_config_that_does_not_fit_changes_nothing(plane: Plane) -> None:
    """The version keeps the settings that it had."""
    model = await plane.upload("m")
    with pytest.raises(InvalidArgumentError):
        await plane.app.models.configure(model.key, ModelConfig(tensor_fields=("a", "b")))
    assert await plane.app.models.get(model.key) == model


async def test_deleting_a_version_keeps_a_file_that_another_names(plane: Plane) -> None:
    """The last name takes the file with it."""
    first, second = await plane.upload("m"), await plane.upload("m")
    assert await plane.app.models.delete(first.key) == [1]
    assert plane.blobs() == [second.sha256]
    assert await plane.app.models.delete(second.key) == [2]
    assert plane.blobs() == []


async def test_a_deleted_version_is_never_given_again(plane: Plane) -> None:
    """A number that somebody wrote down means one file for ever."""
    await plane.upload("m")
    await plane.upload("m")
    assert await plane.app.models.delete(ModelKey("m", 0)) == [1, 2]
    assert (await plane.upload("m")).key.version == 3


async def test_a_model_that_a_pipeline_uses_stays(plane: Plane) -> None:
    """The message names the pipeline; nothing is deleted, not even other versions."""
    first, second = await plane.upload("m"), await plane.upload("m", linear_model(5))
    await plane.pipeline("p", first)
    with pytest.raises(InUseError, match="m version 1 is used by pipeline p version 1"):
        await plane.app.models.delete(ModelKey("m", 0))
    assert await plane.app.models.list_models() == [first, second]
    assert await plane.app.models.delete(second.key) == [2]


@pytest.mark.parametrize("key", [ModelKey("none", 0), ModelKey("m", 2), ModelKey("m/0000000001", 0), ModelKey("", 0)])
async def test_what_was_never_uploaded_is_not_found(plane: Plane, key: ModelKey) -> None:
    """Reading, changing and deleting all say so."""
    await plane.upload("m")
    for use in (plane.app.models.get, plane.app.models.delete, plane.app.models.path):
        with pytest.raises(NotFoundError):
            await use(key)
    with pytest.raises(NotFoundError):
        await plane.app.models.configure(key, ModelConfig())


async def test_a_restart_brings_models_back_and_removes_halves(open_plane: OpenPlane) -> None:
    """What was entered is there; what a crash left is not."""
    async with open_plane() as plane:
        model = await plane.upload("m")
        (plane.folder / "models/00.part").write_bytes(b"half")
        (plane.folder / "models" / ("0" * 64)).write_bytes(b"kept, but never entered")
    async with open_plane() as plane:
        assert await plane.app.models.list_models() == [model]
        assert plane.blobs() == [model.sha256]
