"""Keys, guarded transactions and leases of etcd, as plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bettong_kit.clock import Clock
from bettong_kit.etcd.connection import Connection, Endpoint, Options, unanswered
from bettong_kit.etcd.pb import kv_pb2, rpc_pb2
from bettong_kit.etcd.settings import EtcdSettings

ABSENT = 0
"""The revision of a key that does not exist."""
_PAGE_KEYS = 1_000
"""Keys asked for at once, so that no answer is larger than a message may be."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it was at one revision."""

    key: str
    value: bytes
    created: int
    """Revision that made the key."""
    revision: int
    """Revision that wrote it last."""
    lease: int = 0
    """Lease that it ends with; 0 for none."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys of a prefix, ordered, as of one revision."""

    cluster_id: int
    revision: int
    entries: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Guarded:
    """Changes that happen together if every guard holds."""

    guards: Mapping[str, int] = field(default_factory=dict)
    """Revision that each of these keys must have; `ABSENT` for none."""
    puts: Mapping[str, bytes] = field(default_factory=dict)
    deletes: Sequence[str] = ()
    leased: Mapping[str, bytes] = field(default_factory=dict)
    """Keys to write that end with the lease."""
    lease: int = 0
    reads: Sequence[str] = ()
    """Keys to return when a guard fails."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a guarded change."""

    applied: bool
    revision: int
    found: Mapping[str, KeyValue]
    """What was read, when a guard failed."""


class EtcdClient:
    """Calls with deadlines at whichever server answers; safe to use from many tasks."""

    def __init__(self, settings: EtcdSettings, clock: Clock | None = None) -> None:
        """Prepare; connects with the first call.

        Raises:
            ConfigError: A certificate cannot be read.
        """
        self.connection = Connection(settings, clock)

    async def get(self, key: str) -> KeyValue | None:
        """Return a key as it is now, or None."""
        reply = await self._range(rpc_pb2.RangeRequest(key=key.encode()))
        return key_value(reply.kvs[0]) if reply.kvs else None

    async def list(self, prefix: str) -> Listing:
        """Return all keys that begin with *prefix*, as of one moment."""
        start, end = prefix.encode() or b"\0", prefix_end(prefix)
        entries: list[KeyValue] = []
        revision = cluster_id = 0
        more = True
        while more:
            reply = await self._range(
                rpc_pb2.RangeRequest(key=start, range_end=end, limit=_PAGE_KEYS, revision=revision)
            )
            revision = revision or reply.header.revision
            cluster_id = reply.header.cluster_id
            entries.extend(map(key_value, reply.kvs))
            more = reply.more
            if reply.kvs:
                start = reply.kvs[-1].key + b"\0"
        return Listing(cluster_id, revision, tuple(entries))

    async def put(self, key: str, value: bytes) -> int:
        """Write a key, whatever it was, and return the revision."""
        outcome = await self.commit(Guarded(puts={key: value}))
        return outcome.revision

    async def delete(self, key: str) -> int:
        """Remove a key, if it is there, and return the revision."""
        outcome = await self.commit(Guarded(deletes=[key]))
        return outcome.revision

    async def commit(self, change: Guarded) -> Outcome:
        """Apply a change if its guards hold.

        The change may be tried more than once: a failed guard may be our own first attempt. Callers tell by what they read.

        Raises:
            CoordinationLostError: No answer; it may have happened.
            InvalidArgumentError: Too many keys or too large for etcd; nothing happened.
            NotFoundError: The lease is gone; nothing happened.
        """
        request = rpc_pb2.TxnRequest(
            compare=[_guard(key, revision) for key, revision in change.guards.items()],
            success=[*_deletes(change.deletes), *_puts(change)],
            failure=[_read(key) for key in change.reads],
        )

        async def exchange(endpoint: Endpoint, options: Options) -> rpc_pb2.TxnResponse:
            return await endpoint.kv.Txn(request, timeout=options.timeout_s, metadata=options.metadata)

        reply = await self.connection.call(exchange)
        ranges = () if reply.succeeded else (answer.response_range for answer in reply.responses)
        found = {entry.key: entry for answer in ranges for entry in map(key_value, answer.kvs)}
        return Outcome(reply.succeeded, reply.header.revision, found)

    async def grant(self, ttl_s: int) -> int:
        """Make a lease that ends after so many seconds without `keep_alive`; return its id."""
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl_s)

        async def exchange(endpoint: Endpoint, options: Options) -> rpc_pb2.LeaseGrantResponse:
            return await endpoint.lease.LeaseGrant(request, timeout=options.timeout_s, metadata=options.metadata)

        return (await self.connection.call(exchange)).ID

    async def keep_alive(self, lease: int, *, timeout_s: float | None = None) -> int:
        """Begin the lease's time anew and return it in seconds; 0 when the lease is gone."""

        async def exchange(endpoint: Endpoint, options: Options) -> rpc_pb2.LeaseKeepAliveResponse:
            # A stream for each beat: nothing to resume, and the next beat may go to another server.
            beats = iter([rpc_pb2.LeaseKeepAliveRequest(ID=lease)])
            call = endpoint.lease.LeaseKeepAlive(beats, timeout=options.timeout_s, metadata=options.metadata)
            async for reply in call:
                return reply
            # The server ended the stream in good order: it stops.
            raise unanswered("a keep-alive ended without an answer")

        return (await self.connection.call(exchange, timeout_s=timeout_s)).TTL

    async def time_left(self, lease: int) -> int:
        """Return how many seconds a lease has left; negative when it is gone."""
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease)

        async def exchange(endpoint: Endpoint, options: Options) -> rpc_pb2.LeaseTimeToLiveResponse:
            return await endpoint.lease.LeaseTimeToLive(request, timeout=options.timeout_s, metadata=options.metadata)

        return (await self.connection.call(exchange)).TTL

    async def revoke(self, lease: int) -> None:
        """End a lease and with it its keys.

        Raises:
            NotFoundError: It is gone already.
        """
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)

        async def exchange(endpoint: Endpoint, options: Options) -> rpc_pb2.LeaseRevokeResponse:
            return await endpoint.lease.LeaseRevoke(request, timeout=options.timeout_s, metadata=options.metadata)

        await self.connection.call(exchange)

    async def close(self) -> None:
        """Close all connections; no call may follow."""
        await self.connection.close()

    async def _range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        async def exchange(endpoint: Endpoint, options: Options) -> rpc_pb2.RangeResponse:
            return await endpoint.kv.Range(request, timeout=options.timeout_s, metadata=options.metadata)

        return await self.connection.call(exchange)


def prefix_end(prefix: str) -> bytes:
    """Return the first key after all that begin with *prefix*; a zero byte means the end of all keys."""
    # UTF-8 has no byte 0xff, so that the last one can always be counted up.
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1]) if raw else b"\0"


def key_value(found: kv_pb2.KeyValue) -> KeyValue:
    """Convert a key of etcd."""
    key = found.key.decode(errors="replace")
    return KeyValue(key, found.value, found.create_revision, found.mod_revision, found.lease)


def _guard(key: str, revision: int) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(
        key=key.encode(), target=rpc_pb2.Compare.MOD, result=rpc_pb2.Compare.EQUAL, mod_revision=revision
    )


def _puts(change: Guarded) -> Iterable[rpc_pb2.RequestOp]:
    for key, value in change.puts.items():
        yield rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key.encode(), value=value))
    for key, value in change.leased.items():
        yield rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key.encode(), value=value, lease=change.lease))


def _deletes(keys: Sequence[str]) -> Iterable[rpc_pb2.RequestOp]:
    for key in keys:
        yield rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key.encode()))


def _read(key: str) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key.encode()))
