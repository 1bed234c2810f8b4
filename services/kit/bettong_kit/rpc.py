"""gRPC servers of the control plane: construction, and the one place where errors become statuses."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
from grpc import aio
from structlog.contextvars import bound_contextvars

from bettong_kit.addresses import check_free
from bettong_kit.clock import Clock, SystemClock
from bettong_kit.errors import AddressInUseError, BettongError, ErrorCode
from bettong_kit.logging import get_logger

_log = get_logger("rpc")

STATUS_BY_CODE = {
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.IN_USE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.CONFLICT: grpc.StatusCode.ABORTED,
    ErrorCode.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.NO_SPACE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CORRUPT_DATA: grpc.StatusCode.DATA_LOSS,
    ErrorCode.CANNOT_START: grpc.StatusCode.UNAVAILABLE,
}

REQUEST_ID_KEY = "x-request-id"
TRACE_KEY = "traceparent"
DETAILS_KEY = "grpc-status-details-bin"
_MAX_ID_LENGTH = 128

# What generated code registers and calls: the message types differ from method to method.
Context: TypeAlias = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


def status_of(error: BettongError) -> grpc.StatusCode:
    """Return the gRPC status of an error."""
    return STATUS_BY_CODE[error.code]


def details_of(error: BettongError) -> bytes:
    """Return the serialized `google.rpc.Status` of an error, with what a client can act on."""
    # Errors are rare and these modules are not: 10 ms and 2 MB that a start need not pay.
    from google.protobuf import any_pb2, duration_pb2  # noqa: PLC0415
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    status = status_pb2.Status(code=status_of(error).value[0], message=error.message)
    reason = error_details_pb2.ErrorInfo(reason=error.code.name, domain="bettong")
    details: list[Any] = [reason]
    if error.fields:
        violation = error_details_pb2.BadRequest.FieldViolation
        violations = [violation(field=name, description=what) for name, what in error.fields.items()]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


class EdgeInterceptor(aio.ServerInterceptor):
    """Give each call its identity in the logs, one summary line, and a status for whatever it raises."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wrap the handler of a method; unknown methods stay unknown."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        return self._wrap(handler, handler_call_details.method)

    def _wrap(self, handler: Handler, method: str) -> Handler:
        async def answer_once(request: object, context: Context) -> object:
            async with self._edge(method, context):
                return await cast("Any", handler.stream_unary or handler.unary_unary)(request, context)

        async def answer_many(request: object, context: Context) -> AsyncIterator[object]:
            async with self._edge(method, context):
                replies: AsyncIterable[object] = cast("Any", handler.stream_stream or handler.unary_stream)(
                    request, context
                )
                async for reply in replies:
                    yield reply

        makers = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        make = cast("Any", makers[handler.request_streaming, handler.response_streaming])
        behaviour = answer_many if handler.response_streaming else answer_once
        wrapped = make(behaviour, handler.request_deserializer, handler.response_serializer)
        return cast("Handler", wrapped)

    @contextlib.asynccontextmanager
    async def _edge(self, method: str, context: Context) -> AsyncIterator[None]:
        identity = _identity(context)
        started_s = self._clock.monotonic_s()
        outcome = "CANCELLED"
        with bound_contextvars(method=method, **identity):
            context.set_trailing_metadata(tuple(identity_metadata(identity)))
            try:
                yield
                outcome = "OK"
            except BettongError as error:
                outcome = status_of(error).name
                await self._abort(error, context, identity)
            except (asyncio.CancelledError, aio.AbortError, GeneratorExit):
                raise
            except Exception:  # noqa: BLE001 - top loop of a call: whatever it is, the client gets an id and the log the rest
                outcome = "INTERNAL"
                error_id = uuid.uuid4().hex[:12]
                _log.exception("call_failed", error_id=error_id)
                await self._abort(BettongError(f"internal error {error_id}"), context, identity)
            finally:
                elapsed_s = self._clock.monotonic_s() - started_s
                _log.debug("call_ended", status=outcome, elapsed_ms=round(elapsed_s * 1000, 3))

    @staticmethod
    async def _abort(error: BettongError, context: Context, identity: dict[str, str]) -> None:
        _log.info("call_refused", code=error.code.value, reason=error.message)
        metadata: Metadata = (*identity_metadata(identity), (DETAILS_KEY, details_of(error)))
        await context.abort(status_of(error), error.message, metadata)


def _identity(context: Context) -> dict[str, str]:
    """Take the caller's request id and trace context, or make a request id."""
    given = {
        key: str(value) for key, value in context.invocation_metadata() or () if key in {REQUEST_ID_KEY, TRACE_KEY}
    }
    identity = {"request_id": given.get(REQUEST_ID_KEY, "")[:_MAX_ID_LENGTH] or uuid.uuid4().hex}
    if TRACE_KEY in given:
        identity["traceparent"] = given[TRACE_KEY][:_MAX_ID_LENGTH]
    return identity


def identity_metadata(identity: dict[str, str]) -> list[tuple[str, str | bytes]]:
    """Return the metadata that tells the caller how the logs call this request."""
    keys = {"request_id": REQUEST_ID_KEY, "traceparent": TRACE_KEY}
    return [(keys[name], value) for name, value in identity.items()]


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """How a control-plane server listens."""

    host: str
    port: int
    """0 takes any free port."""
    max_calls: int = 1_000
    """Calls at once; more are refused with RESOURCE_EXHAUSTED."""
    drain_timeout_s: float = 10.0
    """How long calls in flight may take to end when the server stops."""


class RpcServer:
    """A `grpc.aio` server whose port is bound before it serves, so that others can be told the address."""

    def __init__(self, settings: RpcSettings, clock: Clock | None = None) -> None:
        """Bind the port.

        Raises:
            AddressInUseError: Another process listens there, or this machine has no such address.
        """
        self._settings = settings
        self._server = aio.server(
            interceptors=[EdgeInterceptor(clock or SystemClock())],
            maximum_concurrent_rpcs=settings.max_calls,
            # Without this a second server would silently share the port.
            options=[("grpc.so_reuseport", 0)],
        )
        wanted = f"{settings.host}:{settings.port}"
        # gRPC would also write lines of its own to stderr, and calls whatever is wrong "in use".
        check_free(settings.host, settings.port)
        try:
            port = self._server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise AddressInUseError(f"cannot listen on {wanted}: {error}; choose another port") from error
        self.address = f"{settings.host}:{port}"

    def register(self, *registrations: Callable[[aio.Server], None]) -> None:
        """Add services; each registration is a generated `add_…_to_server` with its servicer bound."""
        for add in registrations:
            add(self._server)

    async def start(self) -> None:
        """Begin to accept calls."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop accepting, let calls in flight end within the drain time, cancel the rest."""
        await self._server.stop(self._settings.drain_timeout_s)


@contextlib.asynccontextmanager
async def serving(server: RpcServer, registrations: Sequence[Callable[[aio.Server], None]]) -> AsyncIterator[RpcServer]:
    """Serve inside the block; drain on leaving it."""
    server.register(*registrations)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
