"""What model files can rely on, wherever they are kept."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.buckets import s3_bucket, s3_server

from bettong_catalog.blob_store import BlobStore, LocalBlobStore
from bettong_catalog.blobs import Blobs
from bettong_catalog.files import CHUNK_BYTES
from bettong_catalog.object_stores import open_objects
from bettong_catalog.shared_blobs import SharedBlobs
from bettong_kit.errors import InvalidArgumentError, NotFoundError

CONTENT = b"model" * 300_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run one S3-compatible server for all tests."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["local", "file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    """Open an empty store of each kind."""
    here = Blobs(tmp_path / "here", max_bytes=8 << 20)
    if request.param == "local":
        yield LocalBlobStore(here)
    elif request.param == "file":
        yield SharedBlobs(open_objects(f"file://{tmp_path}/shared"), here, owner="us")
    else:
        with s3_bucket(request.getfixturevalue("server")) as url:
            yield SharedBlobs(open_objects(url), here, owner="us")


async def _keep(blobs: BlobStore, content: bytes = CONTENT) -> str:
    with blobs.upload() as upload:
        upload.write(content[:7])
        upload.write(content[7:])
        digest = upload.finish()
        await blobs.keep(upload, digest)
    return digest


async def _read(blobs: BlobStore, digest: str) -> bytes:
    return b"".join([piece async for piece in blobs.read(digest)])


async def test_a_file_is_kept_under_its_digest(blobs: BlobStore) -> None:
    """It is found on this host, and read back."""
    assert await _keep(blobs) == DIGEST
    assert (await blobs.fetch(DIGEST)).read_bytes() == CONTENT
    assert await _read(blobs, DIGEST) == CONTENT


async def test_the_same_content_again_is_fine(blobs: BlobStore) -> None:
    """It is one file."""
    await _keep(blobs)
    assert await _keep(blobs) == DIGEST
    assert await _read(blobs, DIGEST) == CONTENT


async def test_what_is_not_kept_is_not_there(blobs: BlobStore) -> None:
    """An upload that is given up is gone."""
    await _keep(blobs, b"other content")
    with blobs.upload() as upload:
        upload.write(CONTENT)
    with pytest.raises(InvalidArgumentError), blobs.upload() as upload:
        upload.write(CONTENT)
        upload.finish("0" * 64)
    with pytest.raises(NotFoundError):
        await blobs.fetch(DIGEST)


@pytest.mark.parametrize("digest", ["0" * 64, "../secret", "", DIGEST.upper()])
async def test_what_is_not_there_is_not_found(blobs: BlobStore, digest: str) -> None:
    """Nothing outside of the store can be named."""
    await _keep(blobs)
    with pytest.raises(NotFoundError):
        await blobs.fetch(digest)
    with pytest.raises(NotFoundError):
        await _read(blobs, digest)


async def test_memory_is_bounded_by_a_piece(blobs: BlobStore) -> None:
    """However long the file is."""
    await _keep(blobs)
    assert max([len(piece) async for piece in blobs.read(DIGEST)]) <= 4 * CHUNK_BYTES


async def test_a_sweep_leaves_what_is_wanted(blobs: BlobStore) -> None:
    """And takes the rest from this host."""
    await _keep(blobs)
    other = await _keep(blobs, b"other content")
    await blobs.sweep(frozenset({DIGEST}))
    assert await _read(blobs, DIGEST) == CONTENT
    await blobs.remove(other)
    await blobs.remove(other)
