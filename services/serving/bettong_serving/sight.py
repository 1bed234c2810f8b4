"""What a member knows of its cluster: own copies of what is wanted, who is there and what they run, with one signal for any change."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from google.protobuf.message import DecodeError

from bettong.internal.v1 import cluster_pb2
from bettong_catalog.shared import desired_prefix
from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Host, Running
from bettong_domain.pipelines import PipelineKey
from bettong_kit.errors import CoordinationRefusedError
from bettong_kit.etcd.client import EtcdClient, KeyValue
from bettong_kit.etcd.mirror import Mirror, Snapshot
from bettong_kit.logging import get_logger
from bettong_kit.membership.members import Member, cluster_root
from bettong_kit.membership.observing import Members, Observer

_log = get_logger("cluster")
_REFUSED_S = 5.0
"""How long is waited before etcd is asked again that does not let us in any more."""
_STATES: Mapping[int, ReplicaState] = MappingProxyType(
    {
        cluster_pb2.ProgramReport.LOADING: ReplicaState.LOADING,
        cluster_pb2.ProgramReport.READY: ReplicaState.READY,
        cluster_pb2.ProgramReport.FAILED: ReplicaState.FAILED,
        cluster_pb2.ProgramReport.LEAVING: ReplicaState.LEAVING,
    }
)


def running_prefix(cluster: str) -> str:
    """Return what the keys of all reports begin with.

    Raises:
        ConfigError: The name does not follow the rule.
    """
    return f"{cluster_root(cluster)}/running/"


class Sight(Protocol):
    """What is known of a cluster at the moment."""

    @property
    def desired(self) -> Snapshot:
        """Return what is wanted."""

    @property
    def members(self) -> Members:
        """Return who is announced."""

    def hosts(self) -> list[Host]:
        """Return who is announced with what each says that it runs, ordered by role and name."""

    def changes(self, pause_s: Callable[[], float]) -> AsyncIterator[None]:
        """Yield when everything is known, then after each change, and when nothing has changed for as long as *pause_s* says."""
        ...

    def nudge(self) -> None:
        """Have whoever follows look again, although nothing changed."""


class ClusterSight:
    """Follows a cluster; `run` it beside whoever reads. When etcd is away, what was last known stays."""

    def __init__(self, client: EtcdClient, cluster: str) -> None:
        """Prepare to follow; nothing is known before `run`."""
        self._desired = Mirror(client, desired_prefix(cluster))
        self._observer = Observer(client, cluster)
        self._running = Mirror(client, running_prefix(cluster))
        self._prefix = running_prefix(cluster)
        self._listed: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def desired(self) -> Snapshot:
        """Return what is wanted."""
        return self._desired.snapshot

    @property
    def members(self) -> Members:
        """Return who is announced."""
        return self._observer.members

    def hosts(self) -> list[Host]:
        """Return who is announced with what each says that it runs, ordered by role and name."""
        reports = self._running.snapshot.entries
        return [
            host_of(member, _read(reports.get(f"{self._prefix}{member.role}/{member.name}")))
            for member in self.members.members
        ]

    async def run(self) -> None:
        """Follow etcd until cancelled.

        Raises:
            CoordinationRefusedError: etcd does not let us, and never did (in a group, with what it ended). When it did before, what is
                known stays, and it is asked again and again: somebody may be changing credentials.
        """
        async with asyncio.TaskGroup() as tasks:
            followed = {
                "desired": (self._desired.run, self._desired.snapshots()),
                "members": (self._observer.run, self._observer.snapshots()),
                "running": (self._running.run, self._running.snapshots()),
            }
            for name, (run, snapshots) in followed.items():
                tasks.create_task(self._keep(name, run), name=f"follow {name}")
                tasks.create_task(self._tell(name, snapshots), name=f"hear of {name}")

    async def changes(self, pause_s: Callable[[], float]) -> AsyncIterator[None]:
        """Yield when everything is known, then after each change, and after a pause; see `Sight.changes`."""
        while len(self._listed) < len(("desired", "members", "running")):
            await self._changed.wait()
        while True:
            changed = self._changed
            yield
            try:
                async with asyncio.timeout(pause_s()):
                    await changed.wait()
            except TimeoutError:
                continue

    def nudge(self) -> None:
        """Have whoever follows look again, although nothing changed."""
        # Each event is set once and replaced, so that nobody who looked before can miss it.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except CoordinationRefusedError as error:
                if name not in self._listed:
                    raise
                _log.error("coordination_refused", what=name, reason=error.message)
            await asyncio.sleep(_REFUSED_S)

    async def _tell(self, name: str, snapshots: AsyncIterator[object]) -> None:
        async for _ in snapshots:
            self._listed.add(name)
            self.nudge()


def host_of(member: Member, report: cluster_pb2.MemberReport | None) -> Host:
    """Return a member with what it says that it runs; a report of another epoch is one of a process that is gone."""
    said = report if report is not None and report.epoch == member.epoch else None
    running = {
        PipelineKey(program.pipeline, program.version): Running(_STATES[program.state], program.reason)
        for program in (said.programs if said else ())
        if program.state in _STATES
    }
    return Host(
        role=member.role,
        name=member.name,
        address=member.address,
        process=member.started,
        epoch=member.epoch,
        draining=member.draining,
        reported=said is not None,
        acted_on=said.desired_revision if said else 0,
        running=MappingProxyType(running),
    )


def _read(entry: KeyValue | None) -> cluster_pb2.MemberReport | None:
    if entry is None:
        return None
    try:
        return cluster_pb2.MemberReport.FromString(entry.value)
    except DecodeError:
        _log.warning("report_unreadable", key=entry.key)
        return None
