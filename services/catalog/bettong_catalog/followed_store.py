"""Desired state of a cluster that can be read while etcd is away: from the copy that is followed anyway."""

import asyncio
from collections.abc import Callable

from bettong_catalog.shared import SnapshotStore
from bettong_catalog.store import Entry, Store, Transaction
from bettong_kit.clock import Clock
from bettong_kit.errors import CoordinationLostError
from bettong_kit.etcd.mirror import Snapshot

_ELECTION_S = 3.0
"""How long etcd may be away before changes are refused without asking it."""
_CHANGE_S = 10.0


class FollowedStore:
    """Asks etcd while it answers, so that everybody reads what they wrote, wherever; the copy while it does not."""

    def __init__(self, store: Store, snapshot: Callable[[], Snapshot], prefix: str, clock: Clock) -> None:
        """Read from *store*, or from what *snapshot* returns, with keys below *prefix*."""
        self._store = store
        self._snapshot = snapshot
        self._prefix = prefix
        self._clock = clock

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None; as of before while etcd is away."""
        copy = self._copy_if_lost()
        if copy is None:
            try:
                return await self._store.get(key)
            except CoordinationLostError:
                copy = self._copy()
        return await copy.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered; as of before while etcd is away."""
        copy = self._copy_if_lost()
        if copy is None:
            try:
                return await self._store.list(prefix)
            except CoordinationLostError:
                copy = self._copy()
        return await copy.list(prefix)

    async def commit(self, transaction: Transaction) -> int:
        """Apply a transaction; see `EtcdStore.commit`. A short absence of etcd, as during an election, is waited for.

        Raises:
            CoordinationLostError: etcd does not answer; says whether the transaction may have happened.
        """
        lost_since_ms = self._snapshot().lost_since_ms
        away_s = (self._clock.epoch_ms() - lost_since_ms) / 1000 if lost_since_ms is not None else 0.0
        if away_s > _ELECTION_S:
            reason = self._snapshot().lost_reason
            raise CoordinationLostError(f"etcd has not answered for {away_s:.0f} s, nothing was changed: {reason}")
        try:
            # Also the time that changes before this one take, which wait for etcd as well.
            async with asyncio.timeout(_CHANGE_S):
                return await self._store.commit(transaction)
        except TimeoutError as error:
            raise CoordinationLostError(
                f"etcd did not answer within {_CHANGE_S:g} s; the change may have happened"
            ) from error

    async def close(self) -> None:
        """Release what the store holds."""
        await self._store.close()

    def _copy_if_lost(self) -> SnapshotStore | None:
        return self._copy() if self._snapshot().lost_since_ms is not None else None

    def _copy(self) -> SnapshotStore:
        return SnapshotStore(self._snapshot(), self._prefix)
