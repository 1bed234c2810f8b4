import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

from bettong._asking import (
    DEFAULT_TIMEOUT_S,
    Columns,
    bounded,
    columns_target,
    seconds,
)
from bettong._data import Target, infer_table
from bettong._errors import BettongError, InvalidInputError, ServerError
from bettong._frames.kinds import is_frame_of_library, open_frame
from bettong._retry import Attempts
from bettong._streaming import in_order, in_order_async

if TYPE_CHECKING:
    from bettong._connection import Connection

FrameT = TypeVar("FrameT")

_DEFAULT_IN_FLIGHT = 64
_MOST_IN_FLIGHT = 4_096


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
        max_in_flight: int = _DEFAULT_IN_FLIGHT,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float = DEFAULT_TIMEOUT_S,
        **columns: Unpack[Columns],
    ) -> Generator[FrameT | BettongError, None, None]:
        """Run events as they come and yield the replies in order.

        An event is a frame of any kind or one record, a dict of plain values. Records that wait while requests are under
        way leave together as one request. An event is taken only when there is room, so that a slow reader or server slows the
        source down. The source is read on a thread of its own.

        Args:
            events: Where the events come from.
            max_in_flight: Events that are taken and not yet yielded.
            on_error: "return" yields the error in the place of the reply and goes on.
            timeout: Seconds for each event.
            **columns: As for `infer`.

        Raises:
            BettongError: As for `infer`.
        """
        run, may_return = self._event_runner(columns, timeout, self.stream), _may_return(on_error)
        in_flight = bounded("max_in_flight", max_in_flight, _MOST_IN_FLIGHT)
        _check_source(events)
        replies = in_order(run, events, max_in_flight=in_flight)
        return cast("Generator[FrameT, None, None]", replies if may_return else _raised(replies))

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
        max_in_flight: int = _DEFAULT_IN_FLIGHT,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float = DEFAULT_TIMEOUT_S,
        **columns: Unpack[Columns],
    ) -> AsyncGenerator[FrameT | BettongError, None]:
        """Do what `stream` does for a source and a reader on an event loop.

        Cancellation:
            Requests in flight run to their end; no other is sent.
        """
        run, may_return = self._event_runner(columns, timeout, self.stream_async), _may_return(on_error)
        in_flight = bounded("max_in_flight", max_in_flight, _MOST_IN_FLIGHT)
        if not hasattr(events, "__aiter__"):
            _check_source(events)
        replies = in_order_async(run, events, max_in_flight=in_flight)
        return cast("AsyncGenerator[FrameT, None]", replies if may_return else _raised_async(replies))

    def _event_runner(self, columns: Columns, timeout: float, of: Callable[..., object]) -> "_EventRunner":
        return _EventRunner(self._connection, columns_target(self._name, columns, of), seconds(timeout))


class _EventRunner:
    """Runs events of a stream; a reply or an error for each."""

    def __init__(self, connection: "Connection", target: Target, timeout_s: float) -> None:
        self._pool = connection.pool
        self._target = target
        self._timeout_s = timeout_s

    def __call__(self, events: Sequence[object]) -> list[object]:
        if len(events) > 1 and _are_alike(events):
            try:
                return list(self._run(events))
            except (InvalidInputError, ServerError):
                # One of them may be to blame; the others shall not pay for it.
                pass
            except BettongError as error:
                return [error] * len(events)
        return [self._run_one(event) for event in events]

    def _run_one(self, event: object) -> object:
        try:
            return self._run([event])[0] if _is_record(event) else self._run(event)
        except BettongError as error:
            return error

    def _run(self, given: object) -> Any:  # noqa: ANN401 - the kind that was given
        frame = open_frame(given)
        reply = infer_table(self._pool, self._target, frame.table, Attempts(self._timeout_s))
        return frame.restore(reply, self._target.selection)


def _is_record(event: object) -> bool:
    return isinstance(event, Mapping) and not any(hasattr(value, "dtype") and value.ndim for value in event.values())


def _are_alike(events: Sequence[object]) -> bool:
    """Return whether events are records with the same names, which make one frame."""
    first = events[0]
    return isinstance(first, Mapping) and all(
        isinstance(event, Mapping) and event.keys() == first.keys() and _is_record(event) for event in events
    )


def _check_source(events: object) -> None:
    """Refuse what is no source of events: a frame would be read column by column.

    Raises:
        InvalidInputError: Says what to give.
    """
    is_one = isinstance(events, (Mapping, str, bytes)) or is_frame_of_library(events)
    if is_one or not hasattr(events, "__iter__"):
        raise InvalidInputError(
            f"events must be a source of events, such as a list or a generator of records, not one {type(events).__name__}; "
            "a whole frame is asked by infer or parallel_infer",
            field="events",
        )


def _may_return(on_error: str) -> bool:
    if on_error not in {"raise", "return"}:
        raise InvalidInputError(f"on_error must be 'raise' or 'return', got {on_error!r}", field="on_error")
    return on_error == "return"


def _raised(replies: Generator[object, None, None]) -> Generator[object, None, None]:
    with contextlib.closing(replies):
        for reply in replies:
            if isinstance(reply, BettongError):
                raise reply
            yield reply


async def _raised_async(replies: AsyncGenerator[object, None]) -> AsyncGenerator[object, None]:
    async with contextlib.aclosing(replies):
        async for reply in replies:
            if isinstance(reply, BettongError):
                raise reply
            yield reply
