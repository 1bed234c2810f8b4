import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bettong.v1 import server_pb2

if TYPE_CHECKING:
    from bettong._connection import Connection


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the cluster, as the gateway that was asked sees it.

    Attributes:
        role: "gateway", "router", "executor", or "server" for a process by itself.
        name: Unique among those of its role.
        address: `host:port` of its data port.
        control_address: `host:port` of its control plane; only gateways have one.
        version: Version of Bettong that it runs.
        epoch: Higher than that of every process that had the name before.
        draining: It finishes what it has and takes nothing new.
        lanes: Its reactor threads.
        memory_bytes: What its models may take; None if it did not say.
        ready: Pipeline versions that it serves.
        loading: Pipeline versions that it is loading.
        failed: Pipeline versions that it cannot run.
        outstanding: Requests that the gateway has sent to it and that are not answered.
        waiting_rows: Rows that wait at it.
        error: Why the gateway sends it nothing at the moment; empty when it does.
    """

    role: str
    name: str
    address: str
    control_address: str
    version: str
    epoch: int
    draining: bool
    lanes: int
    memory_bytes: int | None
    ready: int
    loading: int
    failed: int
    outstanding: int
    waiting_rows: int
    error: str


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in a cluster, as it was when it was fetched.

    Attributes:
        cluster: Its name; empty for a process by itself.
        members: Ordered by role and name.
        etcd_lost_since: Since when etcd does not answer, in UTC, and `members` are those of before; None while it does.
        etcd_lost_reason: What the last attempt to reach it ended with.
    """

    cluster: str
    members: tuple[Member, ...]
    etcd_lost_since: dt.datetime | None
    etcd_lost_reason: str


def members(connection: "Connection") -> Members:
    """Ask who is in the cluster."""
    reply = connection.ask(lambda control: control.server.ListMembers, server_pb2.ListMembersRequest())
    lost_ms = reply.coordination.lost_since_ms
    return Members(
        cluster=reply.cluster,
        members=tuple(map(_member, reply.members)),
        etcd_lost_since=dt.datetime.fromtimestamp(lost_ms / 1000, tz=dt.UTC) if lost_ms else None,
        etcd_lost_reason=reply.coordination.lost_reason,
    )


def _member(message: server_pb2.Member) -> Member:
    return Member(
        role=message.role,
        name=message.name,
        address=message.address,
        control_address=message.control_address,
        version=message.version,
        epoch=message.epoch,
        draining=message.draining,
        lanes=message.lanes,
        memory_bytes=message.memory_bytes or None,
        ready=message.programs_ready,
        loading=message.programs_loading,
        failed=message.programs_failed,
        outstanding=message.outstanding,
        waiting_rows=message.waiting_rows,
        error=(message.last_error or "it failed") if message.ejected else "",
    )
