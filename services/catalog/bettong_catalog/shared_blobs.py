"""Model files that all members of a cluster share: stored once, fetched once a host, believed when their digest is right."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

from bettong_catalog.blob_store import OnProgress
from bettong_catalog.blobs import Blobs, Upload, is_digest, naming_full_disk
from bettong_catalog.files import TEMPORARY
from bettong_catalog.objects import ObjectInfo, ObjectStore
from bettong_kit.clock import Clock, SystemClock
from bettong_kit.errors import CorruptDataError, InUseError, NotFoundError, UnavailableError
from bettong_kit.etcd.backoff import Backoff
from bettong_kit.logging import get_logger

_log = get_logger("blobs")
_ATTEMPTS = 5
"""How often a fetch is tried without a single byte coming."""
_LOCK_POLL_S = 0.1
_OWNER = "cluster"
"""File of the store that says whose it is."""
_ORPHANED_S = 12 * 3600.0
"""How long a stored file must be seen that no model names: somebody may be about to enter it. Half of what lies between two sweeps."""
_ABANDONED_S = 24 * 3600.0
"""How long nobody may have written to a temporary file of this host."""


class SharedBlobs:
    """An object store for all, and a folder of this host that several of its processes may share."""

    def __init__(self, objects: ObjectStore, cache: Blobs, *, owner: str, clock: Clock | None = None) -> None:
        """Use a store and a folder.

        Args:
            objects: The store for all.
            cache: The folder of this host.
            owner: Identity of the cluster. Nobody else may keep or sweep files in its store, for nobody else knows what it needs.
            clock: Measures how long files are unnamed.
        """
        self._objects = objects
        self._cache = cache
        self._owner = owner
        self._clock = clock or SystemClock()
        self._orphans: dict[str, tuple[int, float]] = {}
        """When files that nothing names were written, and since when they are seen so."""

    def upload(self) -> AbstractContextManager[Upload]:
        """Take a file in; see `BlobStore.upload`."""
        return self._cache.upload()

    async def keep(self, upload: Upload, sha256: str) -> None:
        """Store an upload for all, then here; see `BlobStore.keep`.

        Raises:
            InUseError: The store is another cluster's.
        """
        await self._claim()
        # Also when it is there already: it is another writing then, so that nobody's sweep takes it before it is entered.
        await self._objects.put(sha256, upload.path)
        await asyncio.to_thread(self._cache.keep, upload, sha256)

    async def fetch(self, sha256: str, on_progress: OnProgress | None = None) -> Path:
        """Bring a file to this host; see `BlobStore.fetch`."""
        with contextlib.suppress(NotFoundError):
            return self._cache.path(sha256)
        if not is_digest(sha256):
            raise NotFoundError(f"'{sha256[:64]}' is no digest of a stored file")
        try:
            async with _alone(self._cache.folder / f"{sha256}.lock"):
                with contextlib.suppress(NotFoundError):
                    # Another process of this host was faster.
                    return self._cache.path(sha256)
                return await self._fetch(sha256, on_progress)
        except OSError as error:
            raise UnavailableError(
                f"the folder for fetched model files (cache, or in the data folder) cannot be used: {error.strerror}"
            ) from error

    async def read(self, sha256: str) -> AsyncIterator[bytes]:
        """Yield a file, from this host if it is here; see `BlobStore.read`."""
        try:
            pieces = self._cache.read(self._cache.path(sha256).name)
        except NotFoundError:
            if not is_digest(sha256):
                raise
            async for piece in self._objects.read(sha256):
                yield piece
            return
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece

    async def remove(self, sha256: str) -> None:
        """Forget the copy of this host; the store's goes with a sweep, when nobody can be about to enter it any more."""
        await asyncio.to_thread(self._cache.remove, sha256)

    async def sweep(self, wanted: frozenset[str]) -> None:
        """Remove files that are not wanted and were not by an earlier sweep; see `BlobStore.sweep`.

        Raises:
            InUseError: The store is another cluster's; this host's folder is swept.
            UnavailableError: The store does not answer; the same.
        """
        await self.sweep_host(wanted)
        await self._claim()
        listed = await self._objects.list()
        now_s, before, self._orphans = self._clock.monotonic_s(), self._orphans, {}
        for found in listed:
            if found.name in wanted or not (is_digest(found.name) or found.name.endswith(TEMPORARY)):
                continue
            written_ms, since_s = before.get(found.name, (found.written_ms, now_s))
            # The store's time only tells one writing from another: no clock of a member is compared with it.
            self._orphans[found.name] = (found.written_ms, since_s if written_ms == found.written_ms else now_s)
            if now_s - self._orphans[found.name][1] >= _ORPHANED_S and await self._is_unchanged(found):
                await self._objects.remove(found.name)
                _log.info("orphan_removed", file=found.name, store=self._objects.url)

    async def sweep_host(self, wanted: frozenset[str]) -> None:
        """Remove from this host what is not wanted; what other processes are writing stays."""
        before_ms = self._clock.epoch_ms() - _ABANDONED_S * 1000
        await asyncio.to_thread(self._cache.sweep, wanted, temporary_before_ms=before_ms)

    async def _claim(self) -> None:
        """Make the store our cluster's, unless it is somebody's."""
        await self._objects.create()
        found = await self._said_owner()
        if not found:
            with self._cache.upload() as upload:
                await asyncio.to_thread(upload.write, self._owner.encode())
                await asyncio.to_thread(upload.finish)
                await self._objects.put(_OWNER, upload.path)
            # Whoever wrote last has it.
            found = await self._said_owner()
        if found != self._owner:
            raise InUseError(
                f"{self._objects.url} has the model files of another cluster ({found[:8]}); give this one ({self._owner[:8]}) a place "
                f"of its own with --blobs, or remove the file '{_OWNER}' there if that cluster is no more"
            )

    async def _said_owner(self) -> str:
        try:
            return b"".join([piece async for piece in self._objects.read(_OWNER)]).decode(errors="replace")
        except NotFoundError:
            return ""

    async def _is_unchanged(self, found: ObjectInfo) -> bool:
        """Return whether a file is there and was not written again since it was listed."""
        try:
            return await self._objects.info(found.name) == found
        except NotFoundError:
            # Another gateway sweeps, too.
            return False

    async def _fetch(self, sha256: str, on_progress: OnProgress | None) -> Path:
        """Fetch a file that nobody else of this host is fetching."""
        partial = self._cache.folder / f"{sha256}.part"
        resumed = partial.exists()
        size_bytes = await self._complete(sha256, partial, on_progress)
        found = await asyncio.to_thread(_digest, partial)
        if found != sha256 and resumed:
            # What an earlier process left may be what is wrong, as after a loss of power.
            partial.unlink()
            size_bytes = await self._complete(sha256, partial, on_progress)
            found = await asyncio.to_thread(_digest, partial)
        if found != sha256:
            partial.unlink()
            raise CorruptDataError(
                f"the file {sha256} in {self._objects.url} is damaged: its digest is {found}; store the model again"
            )
        _log.info("model_fetched", sha256=sha256, bytes=size_bytes, store=self._objects.url)
        return await asyncio.to_thread(self._cache.adopt, partial, sha256)

    async def _complete(self, sha256: str, partial: Path, on_progress: OnProgress | None) -> int:
        """Append to a file until it is as long as the stored one, going on where a break left it."""
        backoff, failures, had_bytes = Backoff(), 0, _size(partial)
        while True:
            try:
                return await self._append(sha256, partial, on_progress)
            except UnavailableError as error:
                has_bytes = _size(partial)
                failures = 0 if has_bytes > had_bytes else failures + 1
                had_bytes = has_bytes
                if failures == _ATTEMPTS:
                    raise
                _log.warning("fetch_interrupted", sha256=sha256, bytes=has_bytes, reason=error.message)
            await asyncio.sleep(backoff.next_s())

    async def _append(self, sha256: str, partial: Path, on_progress: OnProgress | None) -> int:
        total = (await self._objects.info(sha256)).size_bytes
        with partial.open("ab") as file:
            if file.tell() > total:
                file.truncate(0)
            done = file.seek(0, os.SEEK_END)
            async with contextlib.aclosing(self._objects.read(sha256, offset=done)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    with naming_full_disk():
                        await asyncio.to_thread(file.write, piece)
                    done += len(piece)
                    if on_progress is not None:
                        on_progress(done, total)
            with naming_full_disk():
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
        if done < total:
            raise UnavailableError(f"{self._objects.url} broke off after {done} of {total} bytes")
        return total


@contextlib.asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold a lock that the kernel gives back when its process ends; remove its file at the end."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _is_taken(descriptor, path):
                try:
                    yield
                finally:
                    _forget(path)
                return
        finally:
            os.close(descriptor)
        await asyncio.sleep(_LOCK_POLL_S)


def _is_taken(descriptor: int, path: Path) -> bool:
    """Take the lock unless another process has it, or removed the file between opening and locking."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
