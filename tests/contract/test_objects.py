"""What every object store must do."""

import io
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, ClassVar

import pytest
from fakes.buckets import s3_bucket, s3_server

from bettong_catalog.files import CHUNK_BYTES
from bettong_catalog.folder_objects import FolderObjects
from bettong_catalog.object_stores import open_objects
from bettong_catalog.objects import ObjectStore
from bettong_kit.errors import ConfigError, NotFoundError, UnavailableError

CONTENT = bytes(range(256)) * 40_000
"""More than one piece, and more than one part of an upload."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run one S3-compatible server for all tests."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """Open an empty store of each kind."""
    if request.param == "file":
        folder = open_objects(f"file://{tmp_path}/shared")
        await folder.create()
        yield folder
        return
    with s3_bucket(request.getfixturevalue("server")) as url:
        yield open_objects(url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a file to store."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


async def _read(objects: ObjectStore, name: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in objects.read(name, offset=offset)])


async def test_what_was_put_is_read(objects: ObjectStore, file: Path) -> None:
    """The bytes are the file's; the file stays."""
    await objects.put("a", file)
    assert await _read(objects, "a") == CONTENT
    assert file.read_bytes() == CONTENT


async def test_a_file_is_read_in_pieces(objects: ObjectStore, file: Path) -> None:
    """Memory is bounded by a piece, more or less, not by the file."""
    await objects.put("a", file)
    sizes = [len(piece) async for piece in objects.read("a")]
    assert max(sizes) <= 4 * CHUNK_BYTES
    assert len(sizes) > 1


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES + 7, len(CONTENT) - 1, len(CONTENT)])
async def test_reading_goes_on_where_it_broke_off(objects: ObjectStore, file: Path, offset: int) -> None:
    """Any position can be the beginning, the end included."""
    await objects.put("a", file)
    assert await _read(objects, "a", offset) == CONTENT[offset:]


async def test_putting_again_replaces(objects: ObjectStore, file: Path) -> None:
    """The last one counts; there is one file of a name."""
    await objects.put("a", file)
    file.write_bytes(b"new")
    await objects.put("a", file)
    assert await _read(objects, "a") == b"new"
    assert [(found.name, found.size_bytes) for found in await objects.list()] == [("a", 3)]


async def test_an_empty_file_is_a_file(objects: ObjectStore, file: Path) -> None:
    """It has no bytes, and is there."""
    file.write_bytes(b"")
    await objects.put("a", file)
    assert (await _read(objects, "a"), (await objects.info("a")).size_bytes) == (b"", 0)


async def test_what_is_known_of_a_file(objects: ObjectStore, file: Path) -> None:
    """Its size, and when it was written: a second put makes it younger or as young."""
    await objects.put("a", file)
    before = await objects.info("a")
    await objects.put("a", file)
    after = await objects.info("a")
    assert (before.name, before.size_bytes) == ("a", len(CONTENT))
    assert after.written_ms >= before.written_ms > 0


async def test_all_files_are_listed(objects: ObjectStore, file: Path) -> None:
    """By the names that they were put under."""
    assert await objects.list() == []
    for name in ("b", "a"):
        await objects.put(name, file)
    assert sorted(found.name for found in await objects.list()) == ["a", "b"]


async def test_what_is_not_there_is_not_found(objects: ObjectStore, file: Path) -> None:
    """The message names the store and the file."""
    await objects.put("a", file)
    with pytest.raises(NotFoundError, match=f"{objects.url} has no file b"):
        await objects.info("b")
    with pytest.raises(NotFoundError, match=f"{objects.url} has no file b"):
        await _read(objects, "b")


async def test_removing_twice_is_fine(objects: ObjectStore, file: Path) -> None:
    """The second removal finds its work done."""
    await objects.put("a", file)
    await objects.remove("a")
    await objects.remove("a")
    assert await objects.list() == []


async def test_a_bucket_that_is_not_there_is_named(server: str) -> None:
    """An operator's mistake is not a missing model."""
    with s3_bucket(server):
        nowhere = open_objects("s3://nowhere/models")
        with pytest.raises(UnavailableError, match="s3://nowhere/models cannot be used: .*NoSuchBucket"):
            await nowhere.list()


async def test_a_server_that_does_not_answer_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few attempts."""
    with s3_bucket(server) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(UnavailableError, match=f"{url} cannot be used"):
            await open_objects(url).info("a")


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, file: Path) -> None:
    """Such as a share that is not mounted, or a file in its place."""
    with pytest.raises(UnavailableError, match="cannot be used"):
        await open_objects(f"file://{tmp_path}/gone").info("a")
    with pytest.raises(UnavailableError, match="cannot be used"):
        await open_objects(f"file://{file}").put("a", file)
    with pytest.raises(UnavailableError, match="cannot be used"):
        await open_objects(f"file://{file}").create()


async def test_a_put_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """No half file, under no name."""
    objects = open_objects(f"file://{tmp_path}/shared")
    await objects.create()
    with pytest.raises(UnavailableError):
        await objects.put("a", tmp_path)
    assert list((tmp_path / "shared").iterdir()) == []


class _Share(type(Path())):  # type: ignore[misc]
    """A folder that notes on which threads its files are opened and closed."""

    threads: ClassVar[list[int]] = []

    def open(self, mode: str = "r", *_: object, **__: object) -> BinaryIO:
        self.threads.append(threading.get_ident())
        return _ShareFile(self, mode)


class _ShareFile(io.FileIO):
    def close(self) -> None:
        if not self.closed:
            _Share.threads.append(threading.get_ident())
        super().close()


async def test_a_slow_share_holds_up_nothing_else(tmp_path: Path, file: Path) -> None:
    """Its files are neither opened nor closed on the event loop, nor when a reader goes away."""
    objects = FolderObjects(_Share(tmp_path))
    await objects.put("a", file)
    pieces = objects.read("a")
    assert await anext(pieces) == CONTENT[:CHUNK_BYTES]
    await pieces.aclose()  # type: ignore[attr-defined]
    assert len(_Share.threads) == 4
    assert threading.get_ident() not in _Share.threads


@pytest.mark.parametrize("url", ["gs://bucket", "file://relative", "/folder", ""])
def test_an_unknown_address_is_refused(url: str) -> None:
    """With what is expected."""
    with pytest.raises(ConfigError, match="expected file:///folder or s3://bucket/prefix"):
        open_objects(url)


def test_a_file_looks_the_same_in_a_list_and_by_itself() -> None:
    """MinIO and Ceph list milliseconds, and say whole seconds of one file: a sweep compares the two."""
    s3 = pytest.importorskip("bettong_catalog.s3_objects", reason="the extra 's3' is not installed")
    listed = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    of_list, of_head = ({"path": "a", "size": 1, "last_modified": at} for at in (listed, listed.replace(microsecond=0)))
    assert s3._info(of_list) == s3._info(of_head)
