"""A folder that all members see, such as a network share, as an object store."""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO

from bettong_catalog.objects import CHUNK_BYTES, ObjectInfo, missing
from bettong_kit.errors import BettongError, NoSpaceError, UnavailableError

_TEMPORARY = ".part"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderObjects:
    """Files in one folder; each is written beside its place and renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def url(self) -> str:
        """Return what people know the store by."""
        return f"file://{self._folder}"

    async def put(self, name: str, file: Path) -> None:
        """Keep a copy of a file; see `ObjectStore.put`."""
        temporary = self._folder / f"{secrets.token_hex(16)}{_TEMPORARY}"
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            with file.open("rb") as source, temporary.open("xb") as target:
                while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    await asyncio.to_thread(target.write, chunk)
                await asyncio.to_thread(_sync, target)
            await asyncio.to_thread(temporary.replace, self._folder / name)
        except OSError as error:
            raise self._error(error, name) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    async def read(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file from a position on; see `ObjectStore.read`."""
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(offset)
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise self._error(error, name) from error

    async def info(self, name: str) -> ObjectInfo:
        """Return what is known of a file; see `ObjectStore.info`."""
        try:
            return await asyncio.to_thread(_info, self._folder / name)
        except OSError as error:
            raise self._error(error, name) from error

    async def list(self) -> list[ObjectInfo]:
        """Return all files; see `ObjectStore.list`."""
        try:
            return await asyncio.to_thread(lambda: list(_infos(self._folder.iterdir())))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._error(error, "") from error

    async def remove(self, name: str) -> None:
        """Forget a file; see `ObjectStore.remove`."""
        try:
            await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        except OSError as error:
            raise self._error(error, name) from error

    def _error(self, error: OSError, name: str) -> BettongError:
        if isinstance(error, FileNotFoundError) and self._folder.is_dir():
            return missing(self.url, name)
        if error.errno in _FULL:
            return NoSpaceError(f"no space left in {self.url}; nothing was stored")
        return UnavailableError(f"{self.url} cannot be used: {error.strerror}")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _info(path: Path) -> ObjectInfo:
    found = path.stat()
    return ObjectInfo(path.name, found.st_size, found.st_mtime_ns // 1_000_000)


def _infos(paths: Iterable[Path]) -> Iterable[ObjectInfo]:
    for path in paths:
        try:
            yield _info(path)
        except FileNotFoundError:
            # Removed between looking at the folder and at the file.
            continue
