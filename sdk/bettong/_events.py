from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack, cast, overload

from bettong._asking import (
    DEFAULT_PARALLEL,
    DEFAULT_TIMEOUT_S,
    MOST_PARALLEL,
    Columns,
    bounded,
    columns_target,
    seconds,
)
from bettong._data import Target, infer_table
from bettong._errors import BettongError, InvalidInputError
from bettong._frames.kinds import open_frame
from bettong._streaming import in_order, in_order_async

if TYPE_CHECKING:
    from bettong._connection import Connection

FrameT = TypeVar("FrameT")


class EventStreams:
    """Events that are asked one by one, in order and with a bound on how many are under way."""

    _connection: "Connection"
    _name: str

    @overload
    def stream(
        self,
        events: Iterable[FrameT],
        *,
        max_in_flight: int = ...,
        on_error: Literal["raise"] = ...,
        timeout: float = ...,
        **columns: Unpack[Columns],
    ) -> Generator[FrameT, None, None]: ...

    @overload
    def stream(
        self,
        events: Iterable[FrameT],
        *,
        max_in_flight: int = ...,
        on_error: Literal["return"],
        timeout: float = ...,
        **columns: Unpack[Columns],
    ) -> Generator[FrameT | BettongError, None, None]: ...

    def stream(
        self,
        events: Iterable[FrameT],
        *,
        max_in_flight: int = DEFAULT_PARALLEL,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float = DEFAULT_TIMEOUT_S,
        **columns: Unpack[Columns],
    ) -> Generator[FrameT | BettongError, None, None]:
        """Run events as they come and yield the replies in order.

        An event is a frame of any kind or one record, a dict of plain values. An event is taken only when there is room,
        so that a slow reader or server slows the source down.

        Args:
            events: Where the events come from.
            max_in_flight: Events that are taken and not yet yielded.
            on_error: "return" yields the error in the place of the reply and goes on.
            timeout: Seconds for each event.
            **columns: As for `infer`.

        Raises:
            BettongError: As for `infer`.
        """
        run = self._event_runner(columns, seconds(timeout), on_error)
        in_flight = bounded("max_in_flight", max_in_flight, MOST_PARALLEL)
        return cast("Generator[FrameT, None, None]", in_order(run, events, max_in_flight=in_flight))

    @overload
    def stream_async(
        self,
        events: AsyncIterable[FrameT] | Iterable[FrameT],
        *,
        max_in_flight: int = ...,
        on_error: Literal["raise"] = ...,
        timeout: float = ...,
        **columns: Unpack[Columns],
    ) -> AsyncGenerator[FrameT, None]: ...

    @overload
    def stream_async(
        self,
        events: AsyncIterable[FrameT] | Iterable[FrameT],
        *,
        max_in_flight: int = ...,
        on_error: Literal["return"],
        timeout: float = ...,
        **columns: Unpack[Columns],
    ) -> AsyncGenerator[FrameT | BettongError, None]: ...

    def stream_async(
        self,
        events: AsyncIterable[FrameT] | Iterable[FrameT],
        *,
        max_in_flight: int = DEFAULT_PARALLEL,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float = DEFAULT_TIMEOUT_S,
        **columns: Unpack[Columns],
    ) -> AsyncGenerator[FrameT | BettongError, None]:
        """Do what `stream` does for a source and a reader on an event loop.

        Cancellation:
            Requests in flight run to their end; no other is sent.
        """
        run = self._event_runner(columns, seconds(timeout), on_error)
        in_flight = bounded("max_in_flight", max_in_flight, MOST_PARALLEL)
        return cast("AsyncGenerator[FrameT, None]", in_order_async(run, events, max_in_flight=in_flight))

    def _event_runner(self, columns: Columns, timeout_s: float, on_error: str) -> "_EventRunner":
        if on_error not in {"raise", "return"}:
            raise InvalidInputError(f"on_error must be 'raise' or 'return', got {on_error!r}", field="on_error")
        target = columns_target(self._name, columns)
        return _EventRunner(self._connection, target, timeout_s=timeout_s, return_errors=on_error == "return")


class _EventRunner:
    """Runs one event of a stream."""

    def __init__(self, connection: "Connection", target: Target, *, timeout_s: float, return_errors: bool) -> None:
        self._pool = connection.pool
        self._target = target
        self._timeout_s = timeout_s
        self._return_errors = return_errors

    def __call__(self, event: object) -> object:
        try:
            is_record = _is_record(event)
            frame = open_frame([event] if is_record else event)
            reply = infer_table(self._pool, self._target, frame.table, timeout_s=self._timeout_s)
        except BettongError as error:
            if self._return_errors:
                return error
            raise
        restored = frame.restore(reply, self._target.selection)
        return restored[0] if is_record else restored


def _is_record(event: object) -> bool:
    return isinstance(event, Mapping) and not any(hasattr(value, "dtype") and value.ndim for value in event.values())
