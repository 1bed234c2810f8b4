"""Channels to the servers of an etcd cluster: which one is asked, for how long, as whom, and what a failure means."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from grpc import aio

from bettong_kit.clock import Clock, SystemClock
from bettong_kit.errors import (
    BettongError,
    ConfigError,
    CoordinationLostError,
    CoordinationRefusedError,
    InvalidArgumentError,
    NoSpaceError,
    NotFoundError,
)
from bettong_kit.etcd.backoff import Backoff
from bettong_kit.etcd.pb import rpc_pb2, rpc_pb2_grpc
from bettong_kit.etcd.reasons import reason_of
from bettong_kit.etcd.settings import EtcdSettings

ReplyT = TypeVar("ReplyT")

_ELSEWHERE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # A connection that breaks inside a call ends as one of these.
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Another attempt may succeed."""
_OLD_TOKEN = ("invalid auth token", "revision of auth store is old")
_NOT_ALLOWED = ("authentication failed", "user name is empty", "permission denied", "authentication is not enabled")


@dataclass(frozen=True, slots=True)
class Options:
    """What each attempt is called with."""

    timeout_s: float
    metadata: tuple[tuple[str, str], ...]


class Endpoint:
    """One server: its channel and its services."""

    def __init__(self, address: str, channel: aio.Channel) -> None:
        self.address = address
        self.channel = channel
        self.kv = rpc_pb2_grpc.KVStub(channel)
        self.lease = rpc_pb2_grpc.LeaseStub(channel)
        self.watch = rpc_pb2_grpc.WatchStub(channel)
        self.auth = rpc_pb2_grpc.AuthStub(channel)


Exchange = Callable[[Endpoint, Options], Awaitable[ReplyT]]
"""One attempt of a call at one server."""


class Connection:
    """Asks one server at a time, the next one when it does not answer. Has no task of its own."""

    def __init__(self, settings: EtcdSettings, clock: Clock | None = None) -> None:
        """Prepare the channels; must be called where the event loop runs.

        Raises:
            ConfigError: A certificate cannot be read.
        """
        self.settings = settings
        self.clock = clock or SystemClock()
        credentials = _credentials(settings)
        self._endpoints = [
            Endpoint(address, _channel(address, settings, credentials)) for address in settings.endpoints
        ]
        self._current = 0
        self._token = ""
        self._authenticating = asyncio.Lock()

    @property
    def endpoint(self) -> Endpoint:
        """Return the server that is asked at the moment."""
        return self._endpoints[self._current]

    def leave(self, endpoint: Endpoint) -> None:
        """Ask the next server from now on, unless somebody left this one already."""
        if endpoint is self.endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    async def call(self, exchange: Exchange[ReplyT], *, timeout_s: float | None = None) -> ReplyT:
        """Make attempts until one is answered. What changes something may so happen more than once.

        Raises:
            CoordinationLostError: No server answered in time; a change may have happened.
            CoordinationRefusedError: etcd does not let us.
            BettongError: etcd answered that the call is wrong.
        """
        limit_s = timeout_s or self.settings.call_timeout_s
        started_s = self.clock.monotonic_s()
        backoff, renewed, attempts = Backoff(), False, 0
        while True:
            left_s = limit_s - (self.clock.monotonic_s() - started_s)
            endpoint = self.endpoint
            try:
                return await self._attempt(exchange, endpoint, min(left_s, self.settings.attempt_timeout_s))
            except aio.AioRpcError as error:
                attempts += 1
                if _mentions(error, _OLD_TOKEN) and self.settings.user and not renewed:
                    self._token, renewed = "", True
                    continue
                if not may_pass(error):
                    raise translated(error) from error
                reason = error
            self.leave(endpoint)
            # Every server is asked once before the first wait.
            wait_s = backoff.next_s() if attempts >= len(self._endpoints) else 0.0
            if self.clock.monotonic_s() - started_s + wait_s >= limit_s:
                raise self._lost(limit_s, reason) from reason
            await asyncio.sleep(wait_s)

    async def metadata(self, endpoint: Endpoint, timeout_s: float) -> tuple[tuple[str, str], ...]:
        """Return what every call carries, after getting a token if one is needed.

        Raises:
            aio.AioRpcError: The server gives no token.
        """
        # A server that lost its leader says so instead of waiting.
        base = (("hasleader", "true"),)
        if not self.settings.user:
            return base
        async with self._authenticating:
            if not self._token:
                request = rpc_pb2.AuthenticateRequest(name=self.settings.user, password=self.settings.password)
                self._token = (await endpoint.auth.Authenticate(request, timeout=timeout_s)).token
        return (*base, ("token", self._token))

    def forget_token(self) -> None:
        """Get a new token with the next call."""
        self._token = ""

    async def close(self) -> None:
        """Close the channels; calls in flight fail."""
        for endpoint in self._endpoints:
            await endpoint.channel.close()

    async def _attempt(self, exchange: Exchange[ReplyT], endpoint: Endpoint, timeout_s: float) -> ReplyT:
        metadata = await self.metadata(endpoint, timeout_s)
        return await exchange(endpoint, Options(timeout_s, metadata))

    def _lost(self, limit_s: float, error: aio.AioRpcError) -> CoordinationLostError:
        servers = ", ".join(self.settings.endpoints)
        return CoordinationLostError(
            f"etcd ({servers}) did not answer within {limit_s:g} s: {reason_of(error.details() or '')}"
        )


def unanswered(reason: str) -> aio.AioRpcError:
    """Return the error of a server that ended a call without an answer."""
    return aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(), details=reason)


def may_pass(error: aio.AioRpcError) -> bool:
    """Return whether another attempt, at this server or another, may succeed."""
    return error.code() in _ELSEWHERE or "too many requests" in (error.details() or "")


def translated(error: aio.AioRpcError) -> BettongError:
    """Give an answer of etcd our names."""
    text = error.details() or error.code().name
    if _mentions(error, _NOT_ALLOWED) or _mentions(error, _OLD_TOKEN):
        return CoordinationRefusedError(f"etcd refuses us: {text}")
    if "space exceeded" in text:
        return NoSpaceError("no space left in etcd; nothing was changed")
    kinds: dict[grpc.StatusCode, type[BettongError]] = {
        grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
        grpc.StatusCode.NOT_FOUND: NotFoundError,
    }
    return kinds.get(error.code(), BettongError)(f"etcd: {text}")


def _mentions(error: aio.AioRpcError, phrases: tuple[str, ...]) -> bool:
    return any(phrase in (error.details() or "") for phrase in phrases)


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    if settings.ca_file is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read(settings.ca_file),
        private_key=_read(settings.key_file) if settings.key_file else None,
        certificate_chain=_read(settings.cert_file) if settings.cert_file else None,
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"etcd: {file} cannot be read: {error.strerror}") from error


def _channel(address: str, settings: EtcdSettings, credentials: grpc.ChannelCredentials | None) -> aio.Channel:
    options: list[tuple[str, str | int]] = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # etcd ends connections that ping more often than every 5 s; watches look after themselves, see `heartbeat_s`.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.max_receive_message_length", settings.max_reply_bytes),
        # Two clients of one process must not share a connection, or one could not leave without the other.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if credentials is None:
        return aio.insecure_channel(address, options=options)
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return aio.secure_channel(address, credentials, options=options)
