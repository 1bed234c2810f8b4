"""Desired state of a cluster beside the copy of it that is followed anyway.

A change reads what etcd has and nothing else: a copy may lag behind what its own author has been told. Who only looks may see the
copy while etcd is away, but is never told by it that something which they name is not there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from bettong_catalog.shared import SnapshotReader
from bettong_catalog.store import Entry, Store, Transaction
from bettong_kit.clock import Clock
from bettong_kit.errors import CoordinationLostError, CoordinationRefusedError
from bettong_kit.etcd.client import KeyValue
from bettong_kit.etcd.mirror import Snapshot

_ELECTION_S = 3.0
"""How long etcd may be away before it is not asked any more, and how long who looks waits for it."""
_ASKED_S = 10.0
FoundT = TypeVar("FoundT")


class FollowedStore:
    """Asks etcd, so that everybody reads what was written, wherever; says soon when it is away."""

    def __init__(self, store: Store, snapshot: Callable[[], Snapshot], prefix: str, clock: Clock) -> None:
        """Use *store*, of whose keys below *prefix* the copy is what *snapshot* returns."""
        self._store = store
        self._snapshot = snapshot
        self._prefix = prefix
        self._clock = clock
        self._written: dict[str, KeyValue | None] = {}
        """What this process has changed and the copy may not have yet; None for what it deleted."""
        self._written_revision = self._written_restored = 0

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None.

        Raises:
            CoordinationLostError: etcd does not answer.
        """
        async with self._asking():
            return await self._store.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered.

        Raises:
            CoordinationLostError: etcd does not answer.
        """
        async with self._asking():
            return await self._store.list(prefix)

    async def commit(self, transaction: Transaction) -> int:
        """Apply a transaction; see `EtcdStore.commit`. A short absence of etcd, as during an election, is waited for.

        Raises:
            CoordinationLostError: etcd does not answer; says whether the transaction may have happened.
        """
        async with self._asking(is_change=True):
            revision = await self._store.commit(transaction)
        self._note(transaction, revision)
        return revision

    async def close(self) -> None:
        """Release what the store holds."""
        await self._store.close()

    def copy(self) -> SnapshotReader:
        """Return what was last known, and with it what this process has changed since."""
        snapshot = self._snapshot()
        self._forget(snapshot)
        entries = dict(snapshot.entries)
        for key, entry in self._written.items():
            if entry is None:
                entries.pop(key, None)
            else:
                entries[key] = entry
        return SnapshotReader(replace(snapshot, entries=MappingProxyType(entries)), self._prefix)

    @contextlib.asynccontextmanager
    async def _asking(self, *, is_change: bool = False) -> AsyncIterator[None]:
        """Ask etcd, unless it has been away for long, and for a time that has an end; say what became of a change."""
        snapshot = self._snapshot()
        is_lost = snapshot.lost_since_ms is not None
        away_s = self._clock.monotonic_s() - snapshot.lost_since_s if is_lost else 0.0
        if away_s > _ELECTION_S:
            unchanged = ", nothing was changed" if is_change else ""
            raise CoordinationLostError(f"etcd has not answered for {away_s:.0f} s{unchanged}: {snapshot.lost_reason}")
        try:
            # Also the time that changes before this one take, which wait for etcd as well.
            async with asyncio.timeout(_ASKED_S):
                yield
        except TimeoutError as error:
            unknown = "; the change may have happened" if is_change else ""
            raise CoordinationLostError(f"etcd did not answer within {_ASKED_S:g} s{unknown}") from error

    def _note(self, transaction: Transaction, revision: int) -> None:
        """Remember a change until the copy has it."""
        self._forget(self._snapshot())
        self._written |= dict.fromkeys(map(self._key, transaction.deletes))
        for key, value in transaction.puts.items():
            self._written[self._key(key)] = KeyValue(self._key(key), value, revision, revision)
        self._written_revision, self._written_restored = revision, self._snapshot().restored

    def _forget(self, copy: Snapshot) -> None:
        """Drop what the copy has, and what was lost with a history that went back."""
        if copy.revision >= self._written_revision or copy.restored != self._written_restored:
            self._written.clear()

    def _key(self, key: str) -> str:
        return self._prefix + key


class LastKnown:
    """What people who look are shown: what etcd has, or the copy while it is away."""

    def __init__(self, store: FollowedStore) -> None:
        self._store = store

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None; as of before while etcd is away.

        Raises:
            CoordinationLostError: It may have come since.
        """
        return await self._shown(lambda: self._store.get(key), lambda copy: copy.get(key), of_one=True)

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered; as of before while etcd is away.

        Raises:
            CoordinationLostError: All are of one name, there was none, and one may have come since.
        """
        of_one = prefix.count("/") > 1
        return await self._shown(lambda: self._store.list(prefix), lambda copy: copy.list(prefix), of_one=of_one)

    async def _shown(
        self,
        ask: Callable[[], Awaitable[FoundT]],
        look: Callable[[SnapshotReader], Awaitable[FoundT]],
        *,
        of_one: bool,
    ) -> FoundT:
        try:
            async with asyncio.timeout(_ELECTION_S):
                return await ask()
        except (CoordinationLostError, CoordinationRefusedError, TimeoutError) as error:
            found = await look(self._store.copy())
            if of_one and not found:
                reason = str(error) or f"etcd did not answer within {_ELECTION_S:g} s"
                raise CoordinationLostError(f"{reason}; it was not there before") from error
            return found
