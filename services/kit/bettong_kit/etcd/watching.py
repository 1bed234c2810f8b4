"""Changes under a prefix, in order, each once: a watch that goes on at another server where it was."""

import asyncio
import contextlib
import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import grpc
from grpc import aio

from bettong_kit.errors import CoordinationRefusedError
from bettong_kit.etcd.backoff import Backoff
from bettong_kit.etcd.client import KeyValue, key_value, prefix_end
from bettong_kit.etcd.connection import Connection, may_pass, translated, unanswered
from bettong_kit.etcd.pb import kv_pb2, rpc_pb2
from bettong_kit.etcd.reasons import reason_of


class CompactedError(Exception):
    """The changes asked for are no longer kept; list again. A signal inside the kit, never shown."""


class NewsKind(enum.Enum):
    """What a watch has to say."""

    CHANGED = "changed"
    QUIET = "quiet"
    """The server lives and nothing changed."""
    LOST = "lost"
    """The server does not answer; the watch goes on trying."""
    RESUMED = "resumed"
    """A server answers again, or for the first time; changes come from where they ended."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key that was written or removed."""

    entry: KeyValue
    deleted: bool


@dataclass(frozen=True, slots=True)
class News:
    """What happened since the last news."""

    kind: NewsKind
    changes: tuple[Change, ...] = ()
    reason: str = ""


async def watch(connection: Connection, prefix: str, *, after: int) -> AsyncGenerator[News, None]:
    """Yield what changes under *prefix* after a revision, for as long as the caller listens.

    Raises:
        CompactedError: etcd no longer has the changes since then.
        CoordinationRefusedError: etcd does not let us.
    """
    backoff = Backoff()
    lost = False
    while True:
        endpoint = connection.endpoint
        stream = _Stream(connection, prefix, after=after)
        try:
            async with contextlib.aclosing(stream.news()) as received:
                async for news in received:
                    lost = False
                    backoff.reset()
                    after = max([after, *(change.entry.revision for change in news.changes)])
                    yield news
        except aio.AioRpcError as error:
            if not may_pass(error):
                raise translated(error) from error
            connection.leave(endpoint)
            if not lost:
                lost = True
                yield News(NewsKind.LOST, reason=reason_of(error.details() or error.code().name))
            await asyncio.sleep(backoff.next_s())


class _Stream:
    """One watch at one server, from its creation to its first failure."""

    def __init__(self, connection: Connection, prefix: str, *, after: int) -> None:
        self._connection = connection
        self._after = after
        create = rpc_pb2.WatchCreateRequest(
            key=prefix.encode() or b"\0", range_end=prefix_end(prefix), start_revision=after + 1
        )
        self._create = rpc_pb2.WatchRequest(create_request=create)

    async def news(self) -> AsyncGenerator[News, None]:
        endpoint, settings = self._connection.endpoint, self._connection.settings
        metadata = await self._connection.metadata(endpoint, settings.attempt_timeout_s)
        call = endpoint.watch.Watch(metadata=metadata)
        try:
            await self._send(call, self._create)
            async with contextlib.aclosing(self._replies(call)) as replies:
                async for reply in replies:
                    yield self._news_of(reply)
        finally:
            call.cancel()

    async def _replies(
        self, call: "aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]"
    ) -> AsyncGenerator[rpc_pb2.WatchResponse, None]:
        """Read replies; a server that says nothing is asked once whether it lives.

        Raises:
            aio.AioRpcError: The stream broke, or the server does not answer.
        """
        progress = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())
        # Cancelling a read would cancel the call, so that one read outlives the waits for it.
        reading: asyncio.Future[object] | None = None
        asked = True  # the creation is answered as a question is
        try:
            while True:
                reading = reading or asyncio.ensure_future(call.read())
                done, _ = await asyncio.wait({reading}, timeout=self._connection.settings.heartbeat_s)
                if done:
                    reply, reading, asked = reading.result(), None, False
                    if not isinstance(reply, rpc_pb2.WatchResponse):
                        raise unanswered("the watch was ended by the server")
                    yield reply
                elif asked:
                    raise unanswered(f"no sign of life for {self._connection.settings.heartbeat_s:g} s")
                else:
                    await self._send(call, progress)
                    asked = True
        finally:
            if reading is not None:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError, aio.AioRpcError):
                    await reading

    async def _send(
        self, call: "aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]", request: rpc_pb2.WatchRequest
    ) -> None:
        try:
            async with asyncio.timeout(self._connection.settings.attempt_timeout_s):
                await call.write(request)
        except (TimeoutError, asyncio.InvalidStateError) as error:
            raise unanswered("the watch cannot be written to") from error

    def _news_of(self, reply: rpc_pb2.WatchResponse) -> News:
        if reply.compact_revision:
            raise CompactedError(f"changes before revision {reply.compact_revision} are gone")
        if reply.canceled:
            self._refuse(reply.cancel_reason)
        # After a change of servers, events may come again; those that were told are dropped.
        changes = tuple(_change(event) for event in reply.events if event.kv.mod_revision > self._after)
        if changes:
            return News(NewsKind.CHANGED, changes)
        return News(NewsKind.RESUMED if reply.created else NewsKind.QUIET)

    def _refuse(self, reason: str) -> None:
        # A token that a restarted server forgot looks like a missing permission here; a call tells which it is.
        self._connection.forget_token()
        if "permission denied" in reason and not self._connection.settings.user:
            raise CoordinationRefusedError(f"etcd refuses the watch: {reason}")
        raise aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(), details=reason)


def _change(event: kv_pb2.Event) -> Change:
    return Change(key_value(event.kv), deleted=event.type == kv_pb2.Event.DELETE)
