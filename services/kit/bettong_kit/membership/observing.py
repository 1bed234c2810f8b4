"""Seeing the members: consistent snapshots that stay while etcd is away."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from bettong_kit.errors import CorruptDataError
from bettong_kit.etcd.client import EtcdClient, KeyValue
from bettong_kit.etcd.mirror import Mirror, Snapshot
from bettong_kit.logging import get_logger
from bettong_kit.membership.members import Member, from_entry, members_prefix

_log = get_logger("membership")


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in the cluster, as of one revision."""

    revision: int
    members: tuple[Member, ...]
    """Ordered by role and name."""
    lost_since_ms: int | None
    """Wall-clock time since which etcd does not answer and members are those of before; None while it does."""
    lost_reason: str
    restored: int
    """How often etcd came back with an older history."""


class Observer:
    """Follows the members of a cluster; `run` it beside whoever reads."""

    def __init__(self, client: EtcdClient, cluster: str, *, relist_s: float = 60.0) -> None:
        self._mirror = Mirror(client, members_prefix(cluster), relist_s=relist_s)

    @property
    def members(self) -> Members:
        """Return who is there by the newest snapshot."""
        return _members(self._mirror.snapshot)

    async def run(self) -> None:
        """Follow etcd until cancelled.

        Raises:
            CoordinationRefusedError: etcd does not let us.
        """
        await self._mirror.run()

    async def snapshots(self) -> AsyncIterator[Members]:
        """Yield who is there, then each change; a slow reader skips some, never the last."""
        async for snapshot in self._mirror.snapshots():
            yield _members(snapshot)


def _members(snapshot: Snapshot) -> Members:
    found = filter(None, map(_member, snapshot.entries.values()))
    members = tuple(sorted(found, key=lambda member: (member.role, member.name)))
    return Members(snapshot.revision, members, snapshot.lost_since_ms, snapshot.lost_reason, snapshot.restored)


def _member(entry: KeyValue) -> Member | None:
    """Read one member; one that cannot be read must not hide the others."""
    try:
        return from_entry(entry)
    except CorruptDataError as error:
        _log.warning("member_unreadable", key=entry.key, reason=error.message)
        return None
