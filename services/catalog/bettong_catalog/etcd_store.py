"""Desired state in etcd: shared by every process of a cluster, each change happening once however often it had to be tried."""

import asyncio
import contextlib
import uuid
from dataclasses import replace

from bettong_catalog.store import Entry, Transaction
from bettong_kit.errors import BettongError, ConflictError, NotFoundError
from bettong_kit.etcd.client import ABSENT, EtcdClient, Guarded, KeyValue, Outcome

_MARKER_TTL_S = 3_600
"""How long etcd keeps what a crashed process wrote to recognise its own changes."""
_RENEW_S = _MARKER_TTL_S / 2
_CLOSE_TIMEOUT_S = 2.0
"""Of the time of a process that ends."""


class EtcdStore:
    """Keys below one root, behind a client that the caller owns and closes.

    A call that was not answered is tried again, and may have happened before. So each change also writes a marker of its own, does
    nothing if the marker is there already, and removes the marker of the change before.
    """

    def __init__(self, client: EtcdClient, root: str) -> None:
        """Use the keys below *root*, which ends without a slash."""
        self._client = client
        self._clock = client.connection.clock
        self._prefix = f"{root}/desired/"
        self._writer = f"{root}/writers/{uuid.uuid4().hex}"
        self._previous = ""
        self._lease = 0
        self._renew_at_s = 0.0
        # One marker at a time for each process: people make changes, not events.
        self._writing = asyncio.Lock()

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None."""
        found = await self._client.get(self._prefix + key)
        return self._entry(found) if found else None

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered."""
        listing = await self._client.list(self._prefix + prefix)
        return [self._entry(found) for found in listing.entries]

    async def commit(self, transaction: Transaction) -> int:
        """Apply a transaction; see `Store.commit`.

        Raises:
            CoordinationLostError: etcd does not answer; the transaction may have happened.
            InvalidArgumentError: It has more keys, or more bytes, than etcd takes at once; nothing happened.
        """
        async with self._writing:
            await self._hold_lease()
            marker = f"{self._writer}/{uuid.uuid4().hex}"
            change = self._guarded(transaction, marker)
            try:
                outcome = await self._client.commit(replace(change, lease=self._lease))
            except NotFoundError:
                # The lease is gone, as after a restore from a backup; nothing was written.
                self._renew_at_s = 0.0
                await self._hold_lease()
                outcome = await self._client.commit(replace(change, lease=self._lease))
            revision = _revision(outcome, marker)
            self._previous = marker
        return revision

    async def close(self) -> None:
        """Remove the marker; the client goes on. Where that cannot be done soon, the marker's lease ends by itself."""
        if self._lease:
            with contextlib.suppress(BettongError, TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._client.revoke(self._lease)

    def _guarded(self, transaction: Transaction, marker: str) -> Guarded:
        guards = {self._prefix + key: revision for key, revision in transaction.guards.items()}
        puts = {self._prefix + key: value for key, value in transaction.puts.items()}
        # A key that is both removed and written is refused by etcd; written is what it ends as.
        deletes = [self._prefix + key for key in dict.fromkeys(transaction.deletes) if key not in transaction.puts]
        deletes += [self._previous] if self._previous else []
        return Guarded(guards | {marker: ABSENT}, puts, deletes, leased={marker: b""}, reads=[marker])

    async def _hold_lease(self) -> None:
        """Have a lease that outlives any attempt of a change."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._renew_at_s:
            self._lease = await self._client.grant(_MARKER_TTL_S)
            self._renew_at_s = now_s + _RENEW_S

    def _entry(self, found: KeyValue) -> Entry:
        return Entry(found.key.removeprefix(self._prefix), found.value, found.revision)


def _revision(outcome: Outcome, marker: str) -> int:
    if outcome.applied:
        return outcome.revision
    ours = outcome.found.get(marker)
    if ours is None:
        raise ConflictError("somebody else changed it at the same time; try again")
    return ours.revision
