"""Fetching model files from a store that breaks, lies, or is slow."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.clock import ManualClock

from bettong_catalog.blobs import Blobs
from bettong_catalog.folder_objects import FolderObjects
from bettong_catalog.objects import ObjectInfo
from bettong_catalog.shared_blobs import SharedBlobs
from bettong_kit.errors import CorruptDataError, InUseError, NotFoundError, UnavailableError

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
US = "ours"
"""Identity of the cluster."""
DAY_S = 24 * 3600.0
"""Between two sweeps."""


class _Objects(FolderObjects):
    """A folder that counts reads, and breaks off when told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.offsets: list[int] = []
        self.break_after: list[int] = []
        """Pieces that come before each of the next reads breaks off."""
        self.down = False
        self.listed: list[ObjectInfo] | None = None
        """What a list says that began before the last change."""
        self.stuck = asyncio.Event()
        """Set when a read has given all its pieces but the last ones, which never come."""
        self.stick = False

    async def info(self, name: str) -> ObjectInfo:
        if self.down:
            raise UnavailableError("store is down")
        return await super().info(name)

    async def list(self) -> list[ObjectInfo]:
        return await super().list() if self.listed is None else self.listed

    async def read(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        self.offsets.append(offset)
        left = self.break_after.pop(0) if self.break_after else -1
        async for piece in super().read(name, offset=offset):
            if self.stick and left == 0:
                self.stuck.set()
                await asyncio.Future()
            if left == 0:
                raise UnavailableError("connection reset")
            left -= 1
            yield piece


@pytest.fixture
async def objects(tmp_path: Path) -> _Objects:
    """Open a store that has the file."""
    objects = _Objects(tmp_path / "shared")
    await objects.create()
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    await objects.put(DIGEST, file)
    return objects


def _open(objects: _Objects, folder: Path) -> SharedBlobs:
    return SharedBlobs(objects, Blobs(folder, max_bytes=1 << 30), owner=US)


async def _stored(objects: FolderObjects) -> list[str]:
    """Return the names of all but the file that says whose the store is."""
    return sorted(found.name for found in await objects.list() if found.name != "cluster")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_fetched_file_is_true_and_here(objects: _Objects, tmp_path: Path) -> None:
    """Progress is told in bytes; nothing else is left in the folder."""
    told: list[tuple[int, int]] = []
    path = await _open(objects, tmp_path / "a").fetch(DIGEST, lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(told) == told
    assert _names(tmp_path / "a") == [DIGEST]


async def test_a_host_fetches_once(objects: _Objects, tmp_path: Path) -> None:
    """Processes that share the folder wait for the one that fetches, then have the file, too."""
    processes = [_open(objects, tmp_path / "a") for _ in range(3)]
    paths = await asyncio.gather(*(process.fetch(DIGEST) for process in processes))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    await processes[0].fetch(DIGEST)
    assert objects.offsets == [0]
    assert _names(tmp_path / "a") == [DIGEST]


async def test_a_broken_fetch_goes_on_where_it_was(objects: _Objects, tmp_path: Path) -> None:
    """What has come need not come again."""
    objects.break_after = [1, 2]
    path = await _open(objects, tmp_path / "a").fetch(DIGEST)
    assert path.read_bytes() == CONTENT
    assert objects.offsets == [0, 1 << 20, 3 << 20]


async def test_a_fetch_that_was_given_up_goes_on_in_the_next_process(objects: _Objects, tmp_path: Path) -> None:
    """The part that came is kept by a crash as by a cancellation."""
    objects.break_after, objects.stick = [2], True
    first = asyncio.create_task(_open(objects, tmp_path / "a").fetch(DIGEST))
    await objects.stuck.wait()
    first.cancel()
    await asyncio.wait([first])
    assert (await _open(objects, tmp_path / "a").fetch(DIGEST)).read_bytes() == CONTENT
    assert objects.offsets == [0, 2 << 20]


async def test_a_damaged_file_is_named_and_not_kept(objects: _Objects, tmp_path: Path) -> None:
    """The message has the digest and the store; a repaired store is believed."""
    stored = tmp_path / "shared" / DIGEST
    stored.write_bytes(CONTENT[:-1] + b"?")
    blobs = _open(objects, tmp_path / "a")
    with pytest.raises(CorruptDataError, match=f"{DIGEST} in file://{tmp_path}/shared is damaged"):
        await blobs.fetch(DIGEST)
    assert _names(tmp_path / "a") == []
    stored.write_bytes(CONTENT)
    assert (await blobs.fetch(DIGEST)).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"?" * 1000, CONTENT + b"more"])
async def test_a_damaged_rest_of_before_is_fetched_anew(objects: _Objects, tmp_path: Path, left: bytes) -> None:
    """Not everything that a loss of power leaves is what was written."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{DIGEST}.part").write_bytes(left)
    assert (await _open(objects, tmp_path / "a").fetch(DIGEST)).read_bytes() == CONTENT
    assert objects.offsets[-1] == 0


async def test_a_store_that_stays_away_is_an_error(objects: _Objects, tmp_path: Path) -> None:
    """After a few attempts without a byte; it can be tried again later."""
    objects.down = True
    blobs = _open(objects, tmp_path / "a")
    with pytest.raises(UnavailableError, match="store is down"):
        await blobs.fetch(DIGEST)
    objects.down = False
    assert (await blobs.fetch(DIGEST)).read_bytes() == CONTENT


async def test_what_the_store_does_not_have_is_not_found(objects: _Objects, tmp_path: Path) -> None:
    """Neither a lock nor a part of a file is left."""
    with pytest.raises(NotFoundError, match="has no file"):
        await _open(objects, tmp_path / "a").fetch("0" * 64)
    assert _names(tmp_path / "a") == []


async def test_others_read_what_one_host_stored(objects: _Objects, tmp_path: Path) -> None:
    """A gateway can give back a file that was uploaded to another one."""
    read = _open(objects, tmp_path / "b").read(DIGEST)
    assert b"".join([piece async for piece in read]) == CONTENT
    assert _names(tmp_path / "b") == []


@pytest.mark.parametrize("off_by_s", [-1e6, 0, 1e6])
async def test_only_files_that_stay_unnamed_are_swept_from_the_store(
    objects: _Objects, tmp_path: Path, off_by_s: float
) -> None:
    """Another gateway may be about to enter a file that nothing names yet; how late it is by whose clock does not matter."""
    clock = ManualClock(epoch_ms=(await objects.info(DIGEST)).written_ms + round(off_by_s * 1000))
    blobs = SharedBlobs(objects, Blobs(tmp_path / "a", max_bytes=1 << 30), owner=US, clock=clock)
    await blobs.sweep(frozenset())
    clock.advance(DAY_S)
    await blobs.sweep(frozenset({DIGEST}))
    await blobs.sweep(frozenset())
    assert await _stored(objects) == [DIGEST]
    clock.advance(DAY_S)
    await blobs.sweep(frozenset())
    assert await _stored(objects) == []


async def test_a_file_that_is_stored_again_is_not_the_one_that_was_seen(objects: _Objects, tmp_path: Path) -> None:
    """Somebody uploads once more, and is about to enter, what nobody has named for days."""
    clock = ManualClock()
    blobs = SharedBlobs(objects, Blobs(tmp_path / "a", max_bytes=1 << 30), owner=US, clock=clock)
    await blobs.sweep(frozenset())
    _written_again(tmp_path / "shared" / DIGEST)
    clock.advance(DAY_S)
    await blobs.sweep(frozenset())
    assert await _stored(objects) == [DIGEST]
    clock.advance(DAY_S)
    await blobs.sweep(frozenset())
    assert await _stored(objects) == []


async def test_a_file_that_is_stored_again_during_a_sweep_stays(objects: _Objects, tmp_path: Path) -> None:
    """Somebody uploads, beside the sweep, what nobody has named for long; what another gateway removed is no error."""
    (tmp_path / "gone").write_bytes(b"gone")
    await objects.put("0" * 64, tmp_path / "gone")
    clock = ManualClock()
    blobs = SharedBlobs(objects, Blobs(tmp_path / "a", max_bytes=1 << 30), owner=US, clock=clock)
    await blobs.sweep(frozenset())
    clock.advance(DAY_S)
    listed = await objects.list()
    await objects.remove("0" * 64)
    _written_again(tmp_path / "shared" / DIGEST)
    objects.listed = listed
    await blobs.sweep(frozenset())
    assert await _stored(FolderObjects(tmp_path / "shared")) == [DIGEST]


def _written_again(path: Path) -> None:
    written_s = path.stat().st_mtime + 60
    os.utime(path, (written_s, written_s))


async def test_a_sweep_leaves_what_other_processes_write(objects: _Objects, tmp_path: Path) -> None:
    """A folder that is shared by a host has their temporary files in it."""
    blobs = _open(objects, tmp_path / "a")
    (tmp_path / "a" / "young.part").write_bytes(b"half")
    (tmp_path / "a" / ("0" * 64)).write_bytes(b"unwanted")
    await blobs.sweep_host(frozenset())
    assert _names(tmp_path / "a") == ["young.part"]


async def test_files_of_another_cluster_are_left_alone(objects: _Objects, tmp_path: Path) -> None:
    """Whose store it is is written in it: a second cluster, or the same one after etcd was lost, keeps and sweeps nothing there."""
    clock = ManualClock()
    theirs = SharedBlobs(objects, Blobs(tmp_path / "b", max_bytes=1 << 30), owner="theirs", clock=clock)
    await _open(objects, tmp_path / "a").sweep(frozenset({DIGEST}))
    for _ in range(3):
        with pytest.raises(
            InUseError, match=r"of another cluster \(ours\); give this one \(theirs\) a place of its own with --blobs"
        ):
            await theirs.sweep(frozenset())
        clock.advance(DAY_S)
    with theirs.upload() as upload, pytest.raises(InUseError):
        upload.write(b"model")
        await theirs.keep(upload, upload.finish())
    assert await _stored(objects) == [DIGEST]
    assert (await theirs.fetch(DIGEST)).read_bytes() == CONTENT


async def test_what_an_upload_left_behind_is_swept(objects: _Objects, tmp_path: Path) -> None:
    """A gateway that was killed while it wrote to the store; one that still writes is left alone."""
    clock = ManualClock()
    blobs = SharedBlobs(objects, Blobs(tmp_path / "a", max_bytes=1 << 30), owner=US, clock=clock)
    left, written = tmp_path / "shared" / "left.part", tmp_path / "shared" / "written.part"
    left.write_bytes(b"half")
    written.write_bytes(b"half")
    await blobs.sweep(frozenset({DIGEST}))
    clock.advance(DAY_S)
    _written_again(written)
    await blobs.sweep(frozenset({DIGEST}))
    assert await _stored(objects) == [DIGEST, "written.part"]


async def test_a_cache_that_cannot_be_used_is_named(objects: _Objects, tmp_path: Path) -> None:
    """As when its disk is read-only, or somebody removed it."""
    blobs = _open(objects, tmp_path / "a")
    (tmp_path / "a").rmdir()
    with pytest.raises(UnavailableError, match=r"fetched model files \(cache, .*\) cannot be used: No such file"):
        await blobs.fetch(DIGEST)
