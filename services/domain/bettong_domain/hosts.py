"""The processes of a cluster as its rules see them: what each runs, also for a while after it was last heard of."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bettong_domain.deployments import ReplicaState
from bettong_domain.pipelines import PipelineKey

EXECUTOR, GATEWAY, ROUTER = "executor", "gateway", "router"
KEEP_S = 30.0
"""How long a process that is gone is kept at most."""
_NOTHING: Mapping[PipelineKey, "Running"] = MappingProxyType({})
ANSWERING = frozenset({ReplicaState.READY, ReplicaState.LEAVING})


@dataclass(frozen=True, slots=True)
class Running:
    """Where a pipeline version stands on a process."""

    state: ReplicaState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """A process that is announced, with what it says that it runs."""

    role: str
    name: str
    address: str
    process: str
    """Tells it from another process that had its name, also when its lease was lost and made anew."""
    epoch: int
    draining: bool = False
    reported: bool = True
    """It has said what it runs, in this epoch."""
    acted_on: int = 0
    """Revision of desired state that what it says is about."""
    running: Mapping[PipelineKey, Running] = field(default_factory=lambda: _NOTHING)

    @property
    def id(self) -> str:
        """Return role and name."""
        return f"{self.role}/{self.name}"

    def ready(self) -> list[PipelineKey]:
        """Return the versions that it will go on answering for."""
        return [key for key, how in self.running.items() if how.state is ReplicaState.READY]

    def answers(self, key: PipelineKey) -> bool:
        """Return whether it answers for a pipeline version."""
        found = self.running.get(key)
        return found is not None and found.state in ANSWERING


@dataclass(frozen=True, slots=True)
class Gone:
    """A process that is not announced any more, with what it last said."""

    host: Host
    since_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Who is there and who was a moment ago, each by role and name."""

    hosts: Mapping[str, Host] = field(default_factory=dict)
    gone: Mapping[str, Gone] = field(default_factory=dict)

    def of_role(self, role: str) -> list[Host]:
        """Return those of one role who are there, ordered by name."""
        return sorted((host for host in self.hosts.values() if host.role == role), key=lambda host: host.name)


def look(
    before: Seen, hosts: Iterable[Host], *, now_s: float, linked: Collection[str], through_routers: bool = False
) -> Seen:
    """Return who is there now, and who of those before is kept.

    A process can vanish from the list without being gone: its lease was lost, or etcd lost its memory. So it is kept with what it last
    said while we are still connected to it and nobody else answers for what it ran, `KEEP_S` at most.

    Args:
        before: What the last look had.
        hosts: Who is announced.
        now_s: By a clock that never goes back.
        linked: Role and name of those whom we are connected to.
        through_routers: Executors are reached through routers: one is connected as long as a router can pass on what it ran.
    """
    there = {host.id: _remembering(host, before) for host in hosts}
    vanished = {name: Gone(host, now_s) for name, host in before.hosts.items() if name not in there}
    past = {
        name: each
        for name, each in (dict(before.gone) | vanished).items()
        if name not in there and now_s - each.since_s < KEEP_S
    }
    routers = [host for host in there.values() if host.role == ROUTER]
    routers += [each.host for name, each in past.items() if each.host.role == ROUTER and name in linked]
    passed_on = {key for router in routers for key in router.running} if through_routers else set()
    ready = {key for host in there.values() if host.role == EXECUTOR for key in host.ready()}
    routed = any(host.role == ROUTER and host.reported for host in there.values())
    gone = {
        name: each
        for name, each in past.items()
        if (name in linked or not passed_on.isdisjoint(each.host.running))
        and _is_needed(each.host, ready, routed=routed)
    }
    return Seen(there, gone)


def _is_needed(host: Host, ready: Collection[PipelineKey], *, routed: bool) -> bool:
    """Return whether nobody who is there does what a process did."""
    if host.role == ROUTER:
        return not routed
    return any(host.answers(key) and key not in ready for key in host.running)


def _remembering(host: Host, before: Seen) -> Host:
    """Return a process with what it said before its lease was made anew, until it says something again."""
    past = before.gone[host.id].host if host.id in before.gone else before.hosts.get(host.id)
    if host.reported or past is None or past.process != host.process:
        return host
    return dataclasses.replace(host, reported=past.reported, acted_on=past.acted_on, running=past.running)
