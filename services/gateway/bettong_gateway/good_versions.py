"""Writing down which version served, for when the next one cannot."""

import asyncio
import dataclasses
from collections.abc import Callable

from bettong_catalog.registry import Registry
from bettong_domain.deployments import Desired
from bettong_kit.errors import BettongError, NotFoundError
from bettong_kit.logging import get_logger

_log = get_logger("reconcile")
_PAUSE_S = 1.0
"""Between attempts while etcd is away."""


class GoodVersions:
    """Writes notes one after another, apart from who takes them, because etcd may be away. One task runs it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pending: dict[str, Desired] = {}
        self._noted: dict[str, int] = {}
        self._wake = asyncio.Event()

    def note(self, wish: Desired) -> None:
        """Write soon that the version of a wish serves, unless that was written for it already."""
        if wish.last_good_version != wish.version and self._noted.get(wish.pipeline) != wish.revision:
            self._noted[wish.pipeline] = wish.revision
            self._pending[wish.pipeline] = wish
            self._wake.set()

    async def run(self) -> None:
        """Write until cancelled.

        Cancellation:
            What was not written is found anew by the next gateway that looks.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, {}
            for wish in pending.values():
                if not await self._write(wish):
                    self._pending.setdefault(wish.pipeline, wish)
            if self._pending:
                self._wake.set()
                await asyncio.sleep(_PAUSE_S)

    async def _write(self, wish: Desired) -> bool:
        """Write one note; return False when it must be tried again."""
        try:
            await self._registry.change_wish(wish.pipeline, _remember(wish.version))
        except NotFoundError:
            # The pipeline was deleted.
            return True
        except BettongError as error:
            _log.warning("good_version_not_noted", pipeline=wish.pipeline, reason=error.message)
            return False
        return True


def _remember(version: int) -> Callable[[Desired], Desired]:
    def change(desired: Desired) -> Desired:
        if desired.stopped or desired.version != version:
            # Somebody wants something else by now.
            return desired
        return dataclasses.replace(desired, last_good_version=version)

    return change
