"""Files by their SHA-256: complete and synced, or not there.

Everything is written to a temporary file in the same folder and renamed; what a crash leaves behind is removed at start.
"""

import contextlib
import hashlib
import math
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from bettong_catalog.files import CHUNK_BYTES, TEMPORARY, is_full, sync, sync_folder
from bettong_kit.errors import InvalidArgumentError, NoSpaceError, NotFoundError
from bettong_kit.logging import get_logger

_log = get_logger("blobs")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Upload:
    """A file on its way in. Use as given by `Blobs.upload`; methods block and are called one at a time."""

    def __init__(self, file: BinaryIO, path: Path, max_bytes: int) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._max_bytes = max_bytes
        self.path = path
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append a piece.

        Raises:
            NoSpaceError: The disk is full, or the file is longer than allowed.
        """
        self.size_bytes += len(chunk)
        if self.size_bytes > self._max_bytes:
            raise NoSpaceError(f"the file is larger than the limit of {self._max_bytes} bytes (max_model_bytes)")
        with naming_full_disk():
            self._file.write(chunk)
        self._digest.update(chunk)

    def finish(self, expected_sha256: str = "") -> str:
        """Bring the file to the disk and return its digest.

        Raises:
            InvalidArgumentError: The digest is not the expected one.
            NoSpaceError: The disk is full.
        """
        with naming_full_disk():
            sync(self._file)
        found = self._digest.hexdigest()
        if expected_sha256 and expected_sha256.lower() != found:
            message = f"the file's digest is {found}, expected {expected_sha256}; it was changed on the way"
            raise InvalidArgumentError(message, fields={"sha256": message})
        return found


class Blobs:
    """A folder of files named by their digest."""

    def __init__(self, folder: Path, *, max_bytes: int, open_file: Callable[[Path], BinaryIO] | None = None) -> None:
        """Use *folder*, creating it.

        Args:
            folder: Where the files are.
            max_bytes: Longest file that is taken.
            open_file: How a new file is opened for writing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._open_file = open_file or (lambda path: path.open("xb"))

    @contextlib.contextmanager
    def upload(self) -> Iterator[Upload]:
        """Take a file in; what is not kept inside the block is removed at its end."""
        path = self._folder / f"{secrets.token_hex(16)}{TEMPORARY}"
        try:
            with naming_full_disk(), contextlib.closing(self._open_file(path)) as file:
                yield Upload(file, path, self._max_bytes)
        finally:
            path.unlink(missing_ok=True)

    @property
    def folder(self) -> Path:
        """Return where the files are."""
        return self._folder

    def keep(self, upload: Upload, sha256: str) -> Path:
        """Make a finished upload visible under its digest; the same content is kept once."""
        return self.adopt(upload.path, sha256)

    def adopt(self, path: Path, sha256: str) -> Path:
        """Make a synced file of this folder visible under its digest."""
        target = self._folder / sha256
        with naming_full_disk():
            path.replace(target)
            sync_folder(self._folder)
        return target

    def path(self, sha256: str) -> Path:
        """Return where a file is.

        Raises:
            NotFoundError: It is not there.
        """
        path = self._folder / sha256
        if not is_digest(sha256) or not path.is_file():
            raise NotFoundError(f"no stored file has the digest {sha256[:64]}")
        return path

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield a file piece by piece.

        Raises:
            NotFoundError: It is not there.
        """
        with self.path(sha256).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def remove(self, sha256: str) -> None:
        """Forget a file; a missing one is fine."""
        (self._folder / sha256).unlink(missing_ok=True)

    def sweep(self, wanted: frozenset[str], *, temporary_before_ms: float = math.inf) -> None:
        """Remove what a crash left: temporary files, and files that nothing names.

        Args:
            wanted: Digests of the files that stay.
            temporary_before_ms: When a temporary file must have been written; where other processes use the folder, too, some time ago.
        """
        for path in self._folder.iterdir():
            temporary = path.suffix == TEMPORARY and _written_ms(path) <= temporary_before_ms
            if temporary or (is_digest(path.name) and path.name not in wanted):
                path.unlink(missing_ok=True)
                _log.info("orphan_removed", file=path.name)


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 as files are named by it."""
    return _DIGEST.fullmatch(text) is not None


def _written_ms(path: Path) -> float:
    """Return when a file was written last; one that is gone meanwhile was never."""
    try:
        return path.stat().st_mtime * 1000
    except FileNotFoundError:
        return -math.inf


@contextlib.contextmanager
def naming_full_disk() -> Iterator[None]:
    """Tell a full disk from other trouble.

    Raises:
        NoSpaceError: There is no space, or the user has no more of it.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise NoSpaceError("no space left for the file; nothing was stored") from error
        raise
