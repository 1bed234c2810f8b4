"""Whom calls are forwarded to: computed from who is there and what they run."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import EXECUTOR, ROUTER, Host, Seen
from bettong_domain.pipelines import PipelineKey


@dataclass(frozen=True, slots=True)
class Peer:
    """Another process that calls are forwarded to."""

    name: str
    """Role and name, such as "executor/e1"."""
    address: str
    """`host:port` of its data port."""
    epoch: int


@dataclass(frozen=True, slots=True)
class ForwardingTable:
    """All that a forwarder knows."""

    replicas: Mapping[PipelineKey, Sequence[Peer]] = field(default_factory=dict)
    """Who runs each pipeline version; the best first."""
    routers: Sequence[Peer] = ()
    """Who takes every version that *replicas* does not name."""


def to_executors(seen: Seen, assigned: Mapping[str, Collection[str]]) -> ForwardingTable:
    """Return the table of a router, or of a gateway with a router inside.

    Args:
        seen: Who is there.
        assigned: Names of the executors that each pipeline is placed on.
    """
    found = _candidates(seen)
    return ForwardingTable({key: _peers(_chosen(key, found[key], assigned.get(key.name, ()))) for key in sorted(found)})


def to_routers(seen: Seen) -> ForwardingTable:
    """Return the table of a gateway that leaves the choice to routers: those that know where everything is."""
    ready = [host for host in seen.of_role(ROUTER) if host.reported]
    kept = [each.host for each in seen.gone.values() if each.host.role == ROUTER and each.host.reported]
    return ForwardingTable(routers=_peers([host for host in ready if not host.draining] or ready or kept))


def answered(seen: Seen) -> frozenset[PipelineKey]:
    """Return every pipeline version that some executor answers for."""
    return frozenset(_candidates(seen))


def _candidates(seen: Seen) -> dict[PipelineKey, list[Host]]:
    """Return who answers for each version: those that are there before those that are gone, ordered by name."""
    there = seen.of_role(EXECUTOR)
    kept = [seen.gone[name].host for name in sorted(seen.gone) if seen.gone[name].host.role == EXECUTOR]
    found: dict[PipelineKey, list[Host]] = {}
    for host in (*there, *kept):
        for key in host.running:
            if host.answers(key):
                found.setdefault(key, []).append(host)
    return found


def _chosen(key: PipelineKey, found: list[Host], assigned: Collection[str]) -> list[Host]:
    """Return who is asked: ready ones, then those that let go, unless all who shall have it are ready."""
    staying = [host for host in found if not host.draining]
    ready = [host for host in staying if host.running[key].state is ReplicaState.READY]
    if not ready:
        # Who drains goes on answering until it is alone with that no longer.
        return staying or found
    names = {host.name for host in ready}
    if assigned and names.issuperset(assigned):
        return ready
    return [*ready, *(host for host in staying if host.name not in names)]


def _peers(hosts: Iterable[Host]) -> tuple[Peer, ...]:
    return tuple(Peer(host.id, host.address, host.epoch) for host in hosts)
