"""The cluster as a gateway tells it to people."""

from collections import Counter

from bettong.internal.v1 import snapshot_pb2
from bettong.v1 import server_pb2
from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Host
from bettong_kit.membership.members import Member
from bettong_serving.forwarding import LinkedEngine
from bettong_serving.sight import Sight


class SeenCluster:
    """What one gateway sees; implements `ClusterView`."""

    def __init__(self, sight: Sight, engine: LinkedEngine, *, name: str, member: str) -> None:
        """Tell what *sight* has, with how the links of *engine* do.

        Args:
            sight: What is followed.
            engine: Forwards to other members.
            name: Of the cluster.
            member: Our own name among the gateways.
        """
        self._sight = sight
        self._engine = engine
        self._name = name
        self._member = member

    @property
    def name(self) -> str:
        """Return the name of the cluster."""
        return self._name

    @property
    def member(self) -> str:
        """Return the name of this process among the gateways."""
        return self._member

    def coordination(self) -> server_pb2.Coordination:
        """Return whether etcd answers, by the copy that has known longest."""
        copies = (self._sight.desired, self._sight.members)
        lost = [copy for copy in copies if copy.lost_since_ms is not None]
        first = min(lost, key=lambda copy: copy.lost_since_ms or 0, default=None)
        if first is None:
            return server_pb2.Coordination()
        return server_pb2.Coordination(lost_since_ms=first.lost_since_ms or 0, lost_reason=first.lost_reason)

    def members(self) -> list[server_pb2.Member]:
        """Return who is in the cluster, ordered by role and name."""
        peers = {peer.name: peer for peer in self._engine.forwarder_status().peers}
        hosts = {host.id: host for host in self._sight.hosts()}
        named = ((f"{member.role}/{member.name}", member) for member in self._sight.members.members)
        return [_member(member, hosts.get(name), peers.get(name)) for name, member in named]


def _member(member: Member, host: Host | None, peer: snapshot_pb2.PeerStatus | None) -> server_pb2.Member:
    states = Counter(running.state for running in host.running.values()) if host else Counter[ReplicaState]()
    message = server_pb2.Member(
        role=member.role,
        name=member.name,
        address=member.address,
        control_address=member.control_address,
        version=member.version,
        epoch=member.epoch,
        draining=member.draining,
        lanes=member.capacity.get("lanes", 0),
        memory_bytes=member.capacity.get("memory_bytes", 0),
        programs_ready=states[ReplicaState.READY],
        programs_loading=states[ReplicaState.LOADING],
        programs_failed=states[ReplicaState.FAILED],
    )
    if peer is not None:
        message.outstanding, message.waiting_rows = peer.outstanding, peer.waiting_rows
        message.ejected, message.last_error = peer.ejected, peer.last_error
    return message
