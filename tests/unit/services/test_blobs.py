"""Files by their digest."""

import errno
import hashlib
import io
from pathlib import Path

import pytest

from bettong_catalog.blobs import Blobs
from bettong_catalog.files import CHUNK_BYTES
from bettong_kit.errors import InvalidArgumentError, NoSpaceError, NotFoundError

CONTENT = b"model" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Use an empty folder."""
    return Blobs(tmp_path, max_bytes=10_000)


def _store(blobs: Blobs, *chunks: bytes) -> str:
    with blobs.upload() as upload:
        for chunk in chunks:
            upload.write(chunk)
        digest = upload.finish()
        blobs.keep(upload, digest)
    return digest


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_kept_under_its_digest(blobs: Blobs, tmp_path: Path) -> None:
    """The digest is that of the whole, however it was cut."""
    assert _store(blobs, CONTENT[:7], CONTENT[7:]) == DIGEST
    assert blobs.path(DIGEST).read_bytes() == CONTENT
    assert _names(tmp_path) == [DIGEST]


def test_the_same_content_is_kept_once(blobs: Blobs, tmp_path: Path) -> None:
    """Uploading a file again costs no disk."""
    _store(blobs, CONTENT)
    _store(blobs, CONTENT)
    assert _names(tmp_path) == [DIGEST]


def test_a_file_is_read_back_piece_by_piece(tmp_path: Path) -> None:
    """Memory is bounded by the piece, not by the file."""
    blobs = Blobs(tmp_path, max_bytes=3 * CHUNK_BYTES)
    content = b"x" * (CHUNK_BYTES + 1)
    digest = _store(blobs, content)
    assert [len(piece) for piece in blobs.read(digest)] == [CHUNK_BYTES, 1]


def test_what_is_not_kept_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    """An upload that is given up, for whatever reason, is gone."""
    with blobs.upload() as upload:
        upload.write(CONTENT)
    with pytest.raises(ZeroDivisionError), blobs.upload() as upload:
        upload.write(CONTENT)
        raise ZeroDivisionError
    assert _names(tmp_path) == []


def test_another_digest_than_expected_is_refused(blobs: Blobs, tmp_path: Path) -> None:
    """A file that was changed on the way is not stored."""
    with (
        pytest.raises(InvalidArgumentError, match=f"digest is {DIGEST}, expected {'0' * 64}"),
        blobs.upload() as upload,
    ):
        upload.write(CONTENT)
        upload.finish("0" * 64)
    assert _names(tmp_path) == []


def test_the_expected_digest_may_be_in_capitals(blobs: Blobs) -> None:
    """Hexadecimal is hexadecimal."""
    with blobs.upload() as upload:
        upload.write(CONTENT)
        assert upload.finish(DIGEST.upper()) == DIGEST


def test_a_file_over_the_limit_is_refused_early(blobs: Blobs, tmp_path: Path) -> None:
    """The limit holds while the file comes, not at its end."""
    with pytest.raises(NoSpaceError, match="limit of 10000 bytes"), blobs.upload() as upload:
        for _ in range(100):
            upload.write(b"x" * 1_000)
    assert _names(tmp_path) == []


class _FullDisk(io.BytesIO):
    """Takes a little, then nothing."""

    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", data)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """The client hears that there is no space, not where the file was."""

    def open_file(path: Path) -> _FullDisk:
        path.touch()
        return _FullDisk()

    blobs = Blobs(tmp_path, max_bytes=10_000, open_file=open_file)
    with pytest.raises(NoSpaceError) as caught, blobs.upload() as upload:
        upload.write(CONTENT)
    assert str(tmp_path) not in caught.value.message
    assert _names(tmp_path) == []


def test_other_trouble_with_the_disk_is_not_called_full(tmp_path: Path) -> None:
    """A missing folder is a mistake of the server's, not of the client's."""
    blobs = Blobs(tmp_path / "gone", max_bytes=1)
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError), blobs.upload():
        pass


@pytest.mark.parametrize("digest", ["0" * 64, "../secret", "", DIGEST.upper()])
def test_what_is_not_there_is_not_found(blobs: Blobs, digest: str) -> None:
    """Nothing outside the folder can be named."""
    _store(blobs, CONTENT)
    with pytest.raises(NotFoundError):
        blobs.path(digest)


def test_a_sweep_removes_what_a_crash_left(blobs: Blobs, tmp_path: Path) -> None:
    """Half files and files without an entry go; the rest, and what is not ours, stays."""
    kept, orphan = _store(blobs, b"kept"), _store(blobs, b"orphan")
    (tmp_path / "00.part").write_bytes(b"half")
    (tmp_path / "README").write_bytes(b"not ours")
    blobs.sweep(frozenset({kept}))
    assert _names(tmp_path) == sorted([kept, "README"])
    assert orphan not in _names(tmp_path)


def test_removing_twice_is_fine(blobs: Blobs, tmp_path: Path) -> None:
    """The second removal finds its work done."""
    digest = _store(blobs, CONTENT)
    blobs.remove(digest)
    blobs.remove(digest)
    assert _names(tmp_path) == []
