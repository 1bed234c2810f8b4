"""A copy of all keys under a prefix that stays true: listed, watched, and listed again whenever a watch may have missed something."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from bettong_kit.errors import BettongError, CoordinationRefusedError
from bettong_kit.etcd.backoff import Backoff
from bettong_kit.etcd.client import EtcdClient, KeyValue, Listing
from bettong_kit.etcd.watching import Change, CompactedError, News, NewsKind, watch
from bettong_kit.logging import get_logger

_log = get_logger("etcd")
_LISTS_BEFORE_ADOPTING = 3
"""How often an older history must be seen in a row before it is believed: one slow answer is not a restored backup."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the copy knows; immutable."""

    revision: int = 0
    entries: Mapping[str, KeyValue] = field(default_factory=lambda: MappingProxyType({}))
    lost_since_ms: int | None = None
    """Wall-clock time since which etcd does not answer, for people; None while it does."""
    lost_since_s: float = 0.0
    """The same by the clock that never goes back, to measure with."""
    lost_reason: str = ""
    restored: int = 0
    """How often etcd came back with an older history, as after a restore from a backup."""


class Mirror:
    """Holds the newest snapshot; `run` keeps it so. When etcd is away, the last one stays."""

    def __init__(self, client: EtcdClient, prefix: str, *, relist_s: float = 60.0) -> None:
        self._client = client
        self._clock = client.connection.clock
        self._prefix = prefix
        self._relist_s = relist_s
        self._listed_s = 0.0
        self._cluster_id = 0
        self._went_back: list[Listing] = []
        self._changed = asyncio.Event()
        self.snapshot = Snapshot()
        self.lists = 0
        """How often everything was listed."""

    async def run(self) -> None:
        """Follow etcd until cancelled.

        Raises:
            CoordinationRefusedError: etcd does not let us; trying again would not help.
        """
        backoff = Backoff()
        while True:
            try:
                await self._list()
                await self._follow(backoff)
            except CoordinationRefusedError as error:
                self._lose(error.message)
                raise
            except CompactedError as error:
                _log.info("watch_compacted", prefix=self._prefix, reason=str(error))
            except BettongError as error:
                self._lose(error.message)
            await asyncio.sleep(backoff.next_s())

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """Yield the newest snapshot, then each newer one; a slow reader skips some, never the last. Nothing before the first list."""
        told: Snapshot | None = None
        while True:
            changed = self._changed
            if self.snapshot is not told and self.lists:
                told = self.snapshot
                yield told
            else:
                await changed.wait()

    async def _follow(self, backoff: Backoff) -> None:
        """Apply a watch until it breaks with an error, or the history turned out to be another."""
        restored = self.snapshot.restored
        watching = watch(self._client.connection, self._prefix, after=self.snapshot.revision)
        async with contextlib.aclosing(watching) as received:
            first = True
            async for news in received:
                await self._hear(news, first=first)
                first = False
                if self.snapshot.restored != restored or self._went_back:
                    return
                backoff.reset()

    async def _hear(self, news: News, *, first: bool) -> None:
        if news.kind is NewsKind.LOST:
            self._lose(news.reason)
        elif news.kind is NewsKind.CHANGED:
            self._apply(news.changes)
        # The list that the first watch begins with is as old as its creation.
        stale = self._clock.monotonic_s() - self._listed_s >= self._relist_s
        if stale or (news.kind is NewsKind.RESUMED and not first):
            await self._list()

    async def _list(self) -> None:
        listing = await self._client.list(self._prefix)
        self._listed_s = self._clock.monotonic_s()
        self.lists += 1
        if self._is_older(listing) and not self._is_believed(listing):
            return
        entries = MappingProxyType({entry.key: entry for entry in listing.entries})
        restored = self.snapshot.restored + bool(self._went_back)
        if self._went_back:
            _log.error("coordination_restored", revision=listing.revision, before=self.snapshot.revision)
        self._went_back = []
        self._cluster_id = listing.cluster_id
        self._publish(Snapshot(listing.revision, entries, restored=restored))

    def _is_older(self, listing: Listing) -> bool:
        same = listing.cluster_id == self._cluster_id or not self._cluster_id
        older = listing.revision < self.snapshot.revision or not same
        if not older:
            self._went_back = []
        return older

    def _is_believed(self, listing: Listing) -> bool:
        """Count lists of one other history; the copy stays as it was until there are enough."""
        if not self._went_back:
            _log.warning("coordination_went_back", revision=listing.revision, before=self.snapshot.revision)
        elif self._went_back[-1].cluster_id != listing.cluster_id:
            self._went_back = []
        self._went_back.append(listing)
        return len(self._went_back) >= _LISTS_BEFORE_ADOPTING

    def _apply(self, changes: tuple[Change, ...]) -> None:
        entries = dict(self.snapshot.entries)
        newest = self.snapshot.revision
        for change in changes:
            # What a list knew already is not news.
            if change.entry.revision <= self.snapshot.revision:
                continue
            newest = max(newest, change.entry.revision)
            if change.deleted:
                entries.pop(change.entry.key, None)
            else:
                entries[change.entry.key] = change.entry
        self._publish(replace(self.snapshot, revision=newest, entries=MappingProxyType(entries)))

    def _lose(self, reason: str) -> None:
        if self.snapshot.lost_since_ms is None:
            _log.warning("coordination_lost", prefix=self._prefix, reason=reason)
            since_ms, since_s = self._clock.epoch_ms(), self._clock.monotonic_s()
            self._publish(replace(self.snapshot, lost_since_ms=since_ms, lost_since_s=since_s, lost_reason=reason))

    def _publish(self, snapshot: Snapshot) -> None:
        if self.snapshot.lost_since_ms is not None and snapshot.lost_since_ms is None:
            _log.info("coordination_back", prefix=self._prefix, revision=snapshot.revision)
        self.snapshot = snapshot
        self._changed.set()
        self._changed = asyncio.Event()
