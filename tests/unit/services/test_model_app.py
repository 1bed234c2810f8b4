"""Uploads beside each other, and those that fail."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.clock import ManualClock
from fakes.engine import FakeEngine
from fakes.models import linear_model
from fakes.sight import FakeSight

from bettong_catalog.blob_store import LocalBlobStore
from bettong_catalog.blobs import Blobs, Upload
from bettong_catalog.registry import Registry
from bettong_domain.models import Framework, ModelKey
from bettong_gateway.model_app import ModelApp, ModelDraft
from bettong_kit.errors import NoSpaceError, UnavailableError
from bettong_kit.logging import configure_logging


class Store(LocalBlobStore):
    """Files of which one may take long to be kept, or that cannot be kept or removed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Blobs(folder, max_bytes=1 << 20))
        self.slow = asyncio.Event()
        """Set when the first file is being kept."""
        self.go_on = asyncio.Event()
        self.is_down = False

    async def keep(self, upload: Upload, sha256: str) -> None:
        if self.is_down:
            raise NoSpaceError("the store is full")
        if not self.slow.is_set():
            self.slow.set()
            await self.go_on.wait()
        await super().keep(upload, sha256)

    async def remove(self, sha256: str) -> None:
        if self.is_down:
            raise UnavailableError("the store is down")
        await super().remove(sha256)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path)


@pytest.fixture
def app(store: Store) -> ModelApp:
    """Return the models of a gateway."""
    clock = ManualClock()
    return ModelApp(Registry(FakeSight(), clock), store, FakeEngine(), clock=clock, max_bytes=1 << 20)


async def _upload(app: ModelApp, name: str, weight: float) -> ModelKey:
    async def chunks() -> AsyncIterator[bytes]:
        yield linear_model(4, weight=weight)

    return (await app.upload(ModelDraft(name, Framework.ONNX), chunks())).key


async def test_a_large_upload_keeps_nobody_waiting(app: ModelApp, store: Store) -> None:
    """Others are uploaded and deleted while it is stored; the same file once more waits for it."""
    large = asyncio.create_task(_upload(app, "large", 1.0))
    await store.slow.wait()
    same = asyncio.create_task(_upload(app, "same", 1.0))
    async with asyncio.timeout(5):
        small = await _upload(app, "small", 2.0)
        assert await app.delete(small) == [1]
    assert (large.done(), same.done()) == (False, False)
    store.go_on.set()
    assert [key.name for key in await asyncio.gather(large, same)] == ["large", "same"]


async def test_a_failed_upload_says_why_it_failed(app: ModelApp, store: Store) -> None:
    """Also when what it left cannot be removed, which is logged."""
    store.is_down = True
    lines = io.StringIO()
    configure_logging(style="json", stream=lines)
    try:
        with pytest.raises(NoSpaceError, match="the store is full"):
            await _upload(app, "m", 1.0)
    finally:
        configure_logging()
    line = json.loads(lines.getvalue())
    assert (line["event"], line["reason"]) == ("file_not_removed", "the store is down")
