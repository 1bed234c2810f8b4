"""Desired state as every member of a cluster reads it: from its own copy of the keys, without asking anybody.

All members that have the same copies compute the same; that is why what they must agree on is computed here and nowhere else.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError

from bettong.internal.v1 import stored_pb2
from bettong_catalog import converters
from bettong_catalog.store import Entry
from bettong_domain.deployments import Desired
from bettong_domain.hosts import EXECUTOR
from bettong_domain.placement import ExecutorRoom, Placement, Wanted, place
from bettong_kit.etcd.client import KeyValue
from bettong_kit.etcd.mirror import Snapshot
from bettong_kit.logging import get_logger
from bettong_kit.membership.members import Member, cluster_root

_log = get_logger("catalog")


def desired_prefix(cluster: str) -> str:
    """Return what the keys of desired state begin with.

    Raises:
        ConfigError: The name does not follow the rule.
    """
    return f"{cluster_root(cluster)}/desired/"


class SnapshotReader:
    """A copy of desired state, read as a store is; all reads are of one moment."""

    def __init__(self, snapshot: Snapshot, prefix: str) -> None:
        """Read the keys below *prefix*, which ends with a slash."""
        self._entries = snapshot.entries
        self._prefix = prefix

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None."""
        found = self._entries.get(self._prefix + key)
        return self._entry(found) if found else None

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered."""
        begin = self._prefix + prefix
        return [self._entry(self._entries[key]) for key in sorted(self._entries) if key.startswith(begin)]

    def _entry(self, found: KeyValue) -> Entry:
        return Entry(found.key.removeprefix(self._prefix), found.value, found.revision)


def read_wishes(entries: Mapping[str, KeyValue], prefix: str) -> list[Desired]:
    """Return the wishes for all pipelines, ordered by name, from a copy of the keys below *prefix*."""
    begin = f"{prefix}deployments/"
    found = (_wish(entries[key]) for key in sorted(entries) if key.startswith(begin))
    return [wish for wish in found if wish is not None]


def placement_of(wishes: Iterable[Desired], members: Iterable[Member]) -> Placement:
    """Return which executors run which pipelines, all versions of one on the same."""
    wanted = [_wanted(wish) for wish in wishes if wish.versions]
    return place(wanted, [_room(member) for member in members if member.role == EXECUTOR])


class Placer:
    """Computes placements, each only when what it depends on is new: reports come more often than members and wishes."""

    def __init__(self) -> None:
        self._things: object = None
        self._placement = Placement({}, {})

    def place(self, wishes: Sequence[Desired], members: Iterable[Member]) -> Placement:
        """Return which executors run which pipelines."""
        executors = [member for member in members if member.role == EXECUTOR]
        things = [(wish.pipeline, wish.stopped, wish.config, wish.since) for wish in wishes], executors
        if things != self._things:
            self._things, self._placement = things, placement_of(wishes, executors)
        return self._placement


def _wish(entry: KeyValue) -> Desired | None:
    """Read one wish; one that cannot be read must not hide the others."""
    try:
        stored = stored_pb2.StoredDeployment.FromString(entry.value)
    except DecodeError:
        _log.warning("deployment_unreadable", key=entry.key)
        return None
    return dataclasses.replace(converters.desired_from_stored(stored, entry.revision), since=entry.created)


def _wanted(wish: Desired) -> Wanted:
    config = wish.config
    replicas = config.replicas or config.replicas_min
    return Wanted(wish.pipeline, replicas, config.cpus, config.memory_bytes, wish.since)


def _room(member: Member) -> ExecutorRoom:
    lanes, memory_bytes = member.capacity.get("lanes", 1), member.capacity.get("memory_bytes", 0)
    return ExecutorRoom(member.name, lanes, memory_bytes, draining=member.draining)
