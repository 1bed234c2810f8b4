"""Removing files that no model names, at the start and again and again."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.clock import ManualClock
from fakes.sight import FakeSight

from bettong_catalog.blob_store import LocalBlobStore
from bettong_catalog.blobs import Blobs
from bettong_catalog.registry import Registry
from bettong_catalog.store import Entry
from bettong_gateway.sweeping import Sweeping
from bettong_kit.errors import CoordinationLostError, UnavailableError


class Swept(LocalBlobStore):
    """Files that remember how they were swept."""

    def __init__(self, folder: Path, troubles: Sequence[Exception] = ()) -> None:
        super().__init__(Blobs(folder, max_bytes=1))
        self.troubles = list(troubles)
        self.sweeps: list[frozenset[str]] = []
        self.swept = asyncio.Event()

    async def sweep(self, wanted: frozenset[str]) -> None:
        self.sweeps.append(wanted)
        if self.troubles:
            raise self.troubles.pop()
        if len(self.sweeps) > 2:
            self.swept.set()


class Lost(FakeSight):
    """An etcd that is away for the first questions."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.asked = 0
        self._answers = answers

    async def list(self, prefix: str) -> list[Entry]:
        self.asked += 1
        if self.asked < self._answers:
            raise CoordinationLostError("etcd is away")
        return await super().list(prefix)


async def run(sweeping: Sweeping, swept: asyncio.Event) -> None:
    """Sweep until a test has seen enough."""
    task = asyncio.create_task(sweeping.run())
    await swept.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_files_are_swept_again_and_again(tmp_path: Path) -> None:
    """Not only at the start; a store or folder in trouble is tried again sooner, and ends nothing."""
    troubles = [UnavailableError("the store is down"), PermissionError(13, "not allowed")]
    blobs = Swept(tmp_path / "blobs", troubles)
    await run(Sweeping(Registry(FakeSight(), ManualClock()), blobs, every_s=0.001, again_s=0.001), blobs.swept)
    assert len(blobs.sweeps) > 2


async def test_nothing_is_an_orphan_while_etcd_is_away(tmp_path: Path) -> None:
    """A gateway that cannot ask which files are named removes none: it would remove all."""
    blobs, etcd = Swept(tmp_path / "blobs"), Lost(answers=4)
    await run(Sweeping(Registry(etcd, ManualClock()), blobs, every_s=0.001, again_s=0.001), blobs.swept)
    assert etcd.asked - 3 == len(blobs.sweeps)
