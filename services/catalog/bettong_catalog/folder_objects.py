"""A folder that all members see, such as a network share, as an object store."""

import asyncio
import contextlib
import errno
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO, Literal

from bettong_catalog.files import CHUNK_BYTES, TEMPORARY, is_full, sync, sync_folder
from bettong_catalog.objects import ObjectInfo, missing
from bettong_kit.errors import BettongError, NoSpaceError, UnavailableError

_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What shares say that cannot sync a folder."""


class FolderObjects:
    """Files in one folder; each is written beside its place and renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def url(self) -> str:
        """Return what people know the store by."""
        return f"file://{self._folder}"

    async def create(self) -> None:
        """Make the folder; see `ObjectStore.create`."""
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error, "") from error

    async def put(self, name: str, file: Path) -> None:
        """Keep a copy of a file; see `ObjectStore.put`."""
        temporary = self._folder / f"{secrets.token_hex(16)}{TEMPORARY}"
        try:
            async with _opened(file, "rb") as source, _opened(temporary, "xb") as target:
                while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    await asyncio.to_thread(target.write, chunk)
                await asyncio.to_thread(sync, target)
            await asyncio.to_thread(_rename, temporary, self._folder / name)
        except OSError as error:
            raise self._error(error, name) from error
        finally:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(temporary.unlink)

    async def read(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file from a position on; see `ObjectStore.read`."""
        try:
            async with _opened(self._folder / name, "rb") as file:
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
        if is_full(error):
            return NoSpaceError(f"no space left in {self.url}; nothing was stored")
        return UnavailableError(f"{self.url} cannot be used: {error.strerror}")


@contextlib.asynccontextmanager
async def _opened(path: Path, mode: Literal["rb", "xb"]) -> AsyncIterator[BinaryIO]:
    """Open a file and close it at the end, neither on the event loop: a share may take its time for both."""
    file = await asyncio.to_thread(lambda: path.open(mode))
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)


def _rename(temporary: Path, target: Path) -> None:
    temporary.replace(target)
    try:
        sync_folder(target.parent)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


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
