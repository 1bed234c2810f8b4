"""A cluster without etcd: desired state in memory, and members that say what a test lets them say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from bettong_catalog.shared import desired_prefix
from bettong_catalog.store import ABSENT, Entry, Transaction
from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Host, Running
from bettong_domain.pipelines import PipelineKey
from bettong_kit.errors import ConflictError
from bettong_kit.etcd.client import KeyValue
from bettong_kit.etcd.mirror import Snapshot
from bettong_kit.membership.members import Member
from bettong_kit.membership.observing import Members

CLUSTER = "c"
PREFIX = desired_prefix(CLUSTER)


class FakeReports:
    """Remembers what a member says that it runs."""

    def __init__(self) -> None:
        self.revision = -1
        self.newest: dict[PipelineKey, Running] = {}
        self.may_tell = asyncio.Event()
        self.may_tell.set()

    def publish(self, revision: int, running: Mapping[PipelineKey, Running]) -> None:
        """Remember the newest."""
        self.revision, self.newest = revision, dict(running)

    async def told(self) -> None:
        """Wait until it may be told."""
        await self.may_tell.wait()


class FakeSight:
    """What is known, and the store behind it; changes are seen at once."""

    def __init__(self) -> None:
        self.desired = Snapshot()
        self._hosts: dict[str, Host] = {}
        self._capacity: dict[str, dict[str, int]] = {}
        self._changed = asyncio.Event()

    @property
    def members(self) -> Members:
        """Return who is announced."""
        members = tuple(
            Member(
                host.role,
                host.name,
                host.address,
                "1",
                self._capacity[host.id],
                host.draining,
                host.process,
                host.epoch,
            )
            for host in self.hosts()
        )
        return Members(1, members, None, "", 0)

    def hosts(self) -> list[Host]:
        """Return who is announced, ordered."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    async def changes(self, _pause_s: Callable[[], float]) -> AsyncIterator[None]:
        """Yield at once and after each change."""
        while True:
            changed = self._changed
            yield
            await changed.wait()

    def nudge(self) -> None:
        """Have whoever follows look."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def join(self, role: str, name: str, *, lanes: int = 4) -> None:
        """Announce a member that has not said anything yet."""
        host = Host(role, name, f"{name}:1", f"process-{name}", epoch=1, reported=False)
        self._hosts[host.id] = host
        self._capacity[host.id] = {"lanes": lanes}
        self.nudge()

    def leave(self, role: str, name: str) -> None:
        """Take a member away."""
        del self._hosts[f"{role}/{name}"]
        self.nudge()

    def drain(self, role: str, name: str) -> None:
        """Have a member say that it will leave."""
        draining = replace(self._hosts[f"{role}/{name}"], draining=True)
        self._hosts[draining.id] = draining
        self.nudge()

    def say(self, role: str, name: str, **programs: str) -> None:
        """Have a member report, such as p="1 ready, 2 loading"; a reason may follow the state."""
        running = {}
        for pipeline, text in programs.items():
            for part in text.split(", "):
                version, state, *reason = part.split(" ", 2)
                running[PipelineKey(pipeline, int(version))] = Running(ReplicaState(state), " ".join(reason))
        said = replace(self._hosts[f"{role}/{name}"], reported=True, acted_on=self.desired.revision, running=running)
        self._hosts[said.id] = said
        self.nudge()

    async def commit_nothing(self) -> None:
        """Change desired state without changing what is asked for."""
        await self.commit(Transaction(puts={"counters/nothing": b"1"}))

    async def get(self, key: str) -> Entry | None:
        """Return one key of desired state, or None."""
        found = self.desired.entries.get(PREFIX + key)
        return Entry(key, found.value, found.revision) if found else None

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys of desired state that begin so."""
        found = [self.desired.entries[key] for key in sorted(self.desired.entries) if key.startswith(PREFIX + prefix)]
        return [Entry(entry.key.removeprefix(PREFIX), entry.value, entry.revision) for entry in found]

    async def commit(self, transaction: Transaction) -> int:
        """Change desired state."""
        entries = dict(self.desired.entries)
        for key, revision in transaction.guards.items():
            found = entries.get(PREFIX + key)
            if (found.revision if found else ABSENT) != revision:
                raise ConflictError("somebody else was faster")
        now = self.desired.revision + 1
        for key in transaction.deletes:
            entries.pop(PREFIX + key, None)
        for key, value in transaction.puts.items():
            before = entries.get(PREFIX + key)
            entries[PREFIX + key] = KeyValue(PREFIX + key, value, before.created if before else now, now)
        self.desired = Snapshot(now, MappingProxyType(entries))
        self.nudge()
        return now

    async def close(self) -> None:
        """Do nothing."""
