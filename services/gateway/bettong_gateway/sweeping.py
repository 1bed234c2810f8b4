"""Removing model files that no model names any more, while the process serves."""

import asyncio

from bettong_catalog.blob_store import BlobStore
from bettong_catalog.registry import Registry
from bettong_kit.errors import BettongError
from bettong_kit.logging import get_logger

_log = get_logger("blobs")
_EVERY_S = 24 * 3600.0
_AGAIN_S = 600.0
"""Until the next attempt after one that failed."""


class Sweeping:
    """Sweeps at the start and once a day. One task runs it."""

    def __init__(
        self, registry: Registry, blobs: BlobStore, *, every_s: float = _EVERY_S, again_s: float = _AGAIN_S
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._every_s = every_s
        self._again_s = again_s

    async def run(self) -> None:
        """Sweep until cancelled.

        Cancellation:
            What was not removed is found by the next sweep, of whichever gateway.
        """
        while True:
            swept = await self._sweep()
            await asyncio.sleep(self._every_s if swept else self._again_s)

    async def _sweep(self) -> bool:
        """Return whether all is swept. Serving needs no files here; whoever uploads will hear what is wrong."""
        try:
            # Of the store and not of a copy: what a copy does not know is no orphan.
            await self._blobs.sweep(frozenset(model.sha256 for model in await self._registry.models()))
        except BettongError as error:
            _log.warning("blobs_not_swept", reason=error.message)
            return False
        except OSError as error:
            _log.warning("blobs_not_swept", reason=error.strerror)
            return False
        return True
