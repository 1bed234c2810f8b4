"""Model files as services use them: taken in, fetched to this host, read back, forgotten."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bettong_catalog.blobs import Blobs, Upload

OnProgress = Callable[[int, int], None]
"""Told how many bytes of how many are here."""


class BlobStore(Protocol):
    """Files by their SHA-256: complete and true to it, or not there. Safe to use from many tasks."""

    def upload(self) -> AbstractContextManager[Upload]:
        """Take a file in; what is not kept inside the block is removed at its end."""

    async def keep(self, upload: Upload, sha256: str) -> None:
        """Make a finished upload visible under its digest, for everybody.

        Raises:
            NoSpaceError: A disk or the store is full.
            UnavailableError: The store does not answer.
        """

    async def fetch(self, sha256: str, on_progress: OnProgress | None = None) -> Path:
        """Return where a file is on this host, bringing it there if needed.

        Raises:
            NotFoundError: There is no such file.
            CorruptDataError: What is stored has another digest; nothing is kept here.
            UnavailableError: The store does not answer.

        Cancellation:
            What has come so far is kept for the next time.
        """
        ...

    def read(self, sha256: str) -> AsyncIterator[bytes]:
        """Yield a file piece by piece.

        Raises:
            NotFoundError: There is no such file.
        """

    async def remove(self, sha256: str) -> None:
        """Forget a file that nothing names any more; a missing one is fine."""

    async def sweep(self, wanted: frozenset[str]) -> None:
        """Remove what crashes left, and files that are not wanted and were not stored just now."""


class LocalBlobStore:
    """The files of one process, in its own folder."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def upload(self) -> AbstractContextManager[Upload]:
        """Take a file in; see `BlobStore.upload`."""
        return self._blobs.upload()

    async def keep(self, upload: Upload, sha256: str) -> None:
        """Make an upload visible; see `BlobStore.keep`."""
        await asyncio.to_thread(self._blobs.keep, upload, sha256)

    async def fetch(self, sha256: str, _on_progress: OnProgress | None = None) -> Path:
        """Return where a file is; see `BlobStore.fetch`."""
        return self._blobs.path(sha256)

    async def read(self, sha256: str) -> AsyncIterator[bytes]:
        """Yield a file piece by piece; see `BlobStore.read`."""
        pieces = self._blobs.read(sha256)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece

    async def remove(self, sha256: str) -> None:
        """Forget a file; see `BlobStore.remove`."""
        await asyncio.to_thread(self._blobs.remove, sha256)

    async def sweep(self, wanted: frozenset[str]) -> None:
        """Remove what is not wanted; see `BlobStore.sweep`."""
        await asyncio.to_thread(self._blobs.sweep, wanted)
